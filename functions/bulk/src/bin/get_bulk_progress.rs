//! The Lambda of `GET /api/leads/analyze/bulk/{batchId}/progress`.

use oslira_aws::limits::PROGRESS;
use oslira_fn_bulk::get_bulk_progress;
use oslira_http::{Endpoint, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(PROGRESS), move |request| get_bulk_progress(request, db.clone())).await
}
