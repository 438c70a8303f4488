//! The Lambda of the schedule `end_stuck_runs`.

use oslira_fn_schedules::{Ender, end_stuck_runs, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let ender = Ender::from_env()?;
    run("end_stuck_runs", async |tally| end_stuck_runs(tally, &ender).await).await
}
