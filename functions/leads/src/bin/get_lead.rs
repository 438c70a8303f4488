//! The Lambda of `GET /api/leads/{leadId}`.

use oslira_fn_leads::get_lead;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(GENERAL), move |request| get_lead(request, db.clone())).await
}
