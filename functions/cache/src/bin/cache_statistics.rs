//! The Lambda of `GET /api/cache/statistics`.

use oslira_fn_cache::cache_statistics;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(GENERAL), move |request| cache_statistics(request, db.clone())).await
}
