//! The Lambda of the schedule `end_stuck_runs`.

use oslira_fn_schedules::{StuckRunsConfig, StuckRunsEnder, end_stuck_runs};
use oslira_lambda::{init, schedule};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    schedule::run("end_stuck_runs", StuckRunsEnder::new(init::<StuckRunsConfig>()?), end_stuck_runs).await
}
