//! Single analyses: start one, watch it, cancel it, read what came of it.

mod cancel_analysis;
mod get_progress;
mod get_result;
mod start_analysis;
mod wiring;

pub use cancel_analysis::cancel_analysis;
pub use get_progress::get_progress;
pub use get_result::get_result;
pub use start_analysis::start_analysis;
pub use wiring::Deps;
