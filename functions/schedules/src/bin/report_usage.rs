//! The Lambda of the schedule `report_usage`.

use oslira_fn_schedules::{admin_db, report_usage, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let db = admin_db().await?;
    run("report_usage", async |tally| report_usage(tally, &db).await).await
}
