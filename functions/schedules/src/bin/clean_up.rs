//! The Lambda of the schedule `clean_up`.

use oslira_fn_schedules::clean_up;
use oslira_lambda::{init, schedule};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    schedule::run("clean_up", init::<()>()?.admin_db(), clean_up).await
}
