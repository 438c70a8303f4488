//! What runs the product itself: the description of its API, and the migrations of its database.

mod migrate;
mod openapi;

use oslira_http::openapi::Api;

pub use migrate::{Migrator, serve};
pub use openapi::openapi;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Document", include_str!("lib.rs"));
    openapi::describe(api);
}
