//! Whether the service is up, and which of its dependencies answer.

mod health;

pub use health::{Health, health};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Health", "Whether the service and its dependencies are available.");
    health::describe(api);
}
