//! The Lambda of the schedule `report_usage`.

use oslira_fn_schedules::report_usage;
use oslira_lambda::{init, schedule};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    schedule::run("report_usage", init::<()>()?.admin_db(), report_usage).await
}
