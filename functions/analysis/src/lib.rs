//! Single analyses: start, progress, result and cancellation.

mod cancel_analysis;
mod get_progress;
mod get_result;
mod start_analysis;
mod wiring;

pub use cancel_analysis::cancel_analysis;
pub use get_progress::get_progress;
pub use get_result::get_result;
pub use start_analysis::start_analysis;
pub use wiring::{Config, Deps, ExecutionsConfig};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Analyses", "Single analyses: start, progress, result and cancellation.");
    start_analysis::describe(api);
    get_progress::describe(api);
    get_result::describe(api);
    cancel_analysis::describe(api);
}

/// Returns the message about a cancelled run, which states whether its charge is kept.
const fn cancelled_message(credits_kept: i32) -> &'static str {
    if credits_kept == 0 {
        "The analysis was cancelled. You were not charged."
    } else {
        "The analysis was cancelled. Its charge is kept, because cancelled analyses have cost too much within 24 hours."
    }
}
