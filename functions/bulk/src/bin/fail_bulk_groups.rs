//! The Lambda that consumes the dead letters of the queue of bulk groups.

use oslira_aws::consumer::run;
use oslira_fn_bulk::{DeadLetterConsumer, fail_bulk_groups};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let consumer = DeadLetterConsumer::from_env()?;
    run(None, |message| fail_bulk_groups(message, consumer.clone())).await
}
