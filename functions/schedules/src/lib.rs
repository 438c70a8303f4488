//! The scheduled functions, one Lambda each: EventBridge Scheduler invokes them (`template.yaml`), `cargo local schedule` does so by hand.
//!
//! Each works in batches that are transactions of their own. It may run twice, concurrently with itself, or be killed: the next run
//! continues where it stopped.

mod clean_up;
mod end_stuck_runs;
mod renew_subscriptions;
mod report_usage;

pub use clean_up::clean_up;
pub use end_stuck_runs::{StuckRunsConfig, StuckRunsEnder, end_stuck_runs};
pub use renew_subscriptions::renew_subscriptions;
pub use report_usage::report_usage;
