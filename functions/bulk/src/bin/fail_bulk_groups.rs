//! The Lambda that consumes the dead letters of the queue of bulk groups.

use oslira_fn_bulk::fail_bulk_groups;
use oslira_lambda::{init, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    queue::run(None, init::<()>()?.admin_db(), fail_bulk_groups).await
}
