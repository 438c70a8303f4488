//! The Lambda of `POST /api/leads/analyze/bulk`.

use oslira_aws::queues::Queue;
use oslira_fn_bulk::{StartConfig, start_bulk};
use oslira_http::{Endpoint, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<StartConfig>()?;
    let endpoint = Endpoint::new(&init.config.endpoint, &init);
    let queue = Queue::new(&init.aws, init.config.bulk_groups_queue_url);
    run(endpoint.guard.clone(), RateLimit::InHandler, move |request| start_bulk(request, endpoint.clone(), queue.clone())).await
}
