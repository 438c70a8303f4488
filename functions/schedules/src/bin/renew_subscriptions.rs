//! The Lambda of the schedule `renew_subscriptions`.

use oslira_fn_schedules::{admin_db, renew_subscriptions, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let db = admin_db().await?;
    run("renew_subscriptions", async |tally| renew_subscriptions(tally, &db).await).await
}
