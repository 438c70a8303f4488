//! Operations: the API's document and the database migrations.

mod migrate;
mod openapi;

use oslira_http::openapi::Api;

pub use migrate::{Migrator, migrate};
pub use openapi::openapi;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Document", "This document.");
    openapi::describe(api);
}
