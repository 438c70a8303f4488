//! Bulk analyses: up to a hundred handles a request, their profiles fetched a group at a time, each run charged and ended by itself.

mod bulk_groups;
mod cancel_bulk;
mod config;
mod fail_bulk_groups;
mod get_bulk_progress;
mod group;
mod handles;
mod start_bulk;

pub use bulk_groups::{GroupConsumer, bulk_groups};
pub use cancel_bulk::cancel_bulk;
pub use config::{CancelConfig, GroupsConfig, StartConfig};
pub use fail_bulk_groups::fail_bulk_groups;
pub use get_bulk_progress::get_bulk_progress;
pub use start_bulk::start_bulk;

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Bulk analyses", "Bulk analyses: up to 100 handles in a request. Each run is charged by itself.");
    start_bulk::describe(api);
    get_bulk_progress::describe(api);
    cancel_bulk::describe(api);
}
