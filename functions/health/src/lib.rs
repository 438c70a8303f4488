//! The state of the service and of its dependencies.

mod health;

pub use health::{Dependencies, HealthConfig, ScheduleState, health};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Health", "Whether the service and its dependencies are available.");
    health::describe(api);
}
