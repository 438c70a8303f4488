//! The Lambda that consumes the queue of bulk groups.

use oslira_aws::consumer::run;
use oslira_fn_bulk::{Starter, bulk_groups};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let (starter, queue) = Starter::from_env()?;
    run(Some(queue), |message| bulk_groups(message, starter.clone())).await
}
