//! The Lambda of the schedule `clean_up`.

use oslira_fn_schedules::{admin_db, clean_up, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let db = admin_db().await?;
    run("clean_up", async |tally| clean_up(tally, &db).await).await
}
