//! What runs by the clock, one Lambda each: EventBridge Scheduler invokes them (`template.yaml`), `cargo local schedule` does so by hand.
//!
//! Each works in batches that are transactions of their own and may run twice, twice at once, or be killed: the next run goes on where it
//! stopped.

mod clean_up;
mod end_stuck_runs;
mod renew_subscriptions;
mod report_usage;
mod schedule;

pub use clean_up::clean_up;
pub use end_stuck_runs::{Ender, end_stuck_runs};
pub use renew_subscriptions::renew_subscriptions;
pub use report_usage::report_usage;
pub use schedule::{Tally, admin_db, run};
