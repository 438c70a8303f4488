//! The Lambda of the schedule `renew_subscriptions`.

use oslira_fn_schedules::renew_subscriptions;
use oslira_lambda::{init, schedule};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    schedule::run("renew_subscriptions", init::<()>()?.admin_db(), renew_subscriptions).await
}
