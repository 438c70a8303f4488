//! What runs the API itself: its own description.

mod openapi;

use oslira_http::openapi::Api;

pub use openapi::openapi;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Document", include_str!("lib.rs"));
    openapi::describe(api);
}
