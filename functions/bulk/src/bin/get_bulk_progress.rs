//! The Lambda of `GET /api/leads/analyze/bulk/{batchId}/progress`.

use oslira_aws::limits::PROGRESS;
use oslira_fn_bulk::get_bulk_progress;
use oslira_http::{Access, Environment, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let environment = Environment::start()?;
    run(environment.gateway.clone(), Access::Read(PROGRESS), move |request| get_bulk_progress(request, environment.clone())).await
}
