//! The Lambda of `GET /api/credits/balance`.

use oslira_fn_credits::get_balance;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(GENERAL), move |request| get_balance(request, db.clone())).await
}
