//! Whether the service is up, and which of its dependencies answer.

mod health;

pub use health::{Health, health};
