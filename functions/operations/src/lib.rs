//! What a deployment needs done before it takes requests.

mod migrate;

pub use migrate::{Migrator, serve};
