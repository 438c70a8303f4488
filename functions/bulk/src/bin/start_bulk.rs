//! The Lambda of `POST /api/leads/analyze/bulk`.

use oslira_aws::queues::Queue;
use oslira_fn_bulk::start_bulk;
use oslira_http::{Access, Environment, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let environment = Environment::start()?;
    let queue = Queue::from_env(&environment.config, "BULK_GROUPS_QUEUE_URL")?;
    run(environment.gateway.clone(), Access::Own, move |request| start_bulk(request, environment.clone(), queue.clone())).await
}
