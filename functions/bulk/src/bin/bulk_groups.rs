//! The Lambda that consumes the queue of bulk groups.

use oslira_aws::queues::Queue;
use oslira_fn_bulk::{GroupConsumer, GroupsConfig, bulk_groups};
use oslira_lambda::{init, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    let init = init::<GroupsConfig>()?;
    let queue = Queue::new(&init.aws, &init.config.bulk_groups_queue_url);
    queue::run(Some(queue), GroupConsumer::new(init)?, bulk_groups).await
}
