//! The Lambda of `POST /api/leads/{leadId}/restore`.

use oslira_fn_leads::restore_lead;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Before(GENERAL), move |request| restore_lead(request, db.clone())).await
}
