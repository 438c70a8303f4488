//! The Lambda of `GET /api/credits/transactions`.

use oslira_fn_credits::list_transactions;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(GENERAL), move |request| list_transactions(request, db.clone())).await
}
