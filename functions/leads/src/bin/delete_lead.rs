//! The Lambda of `DELETE /api/leads/{leadId}`.

use oslira_fn_leads::delete_lead;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Before(GENERAL), move |request| delete_lead(request, db.clone())).await
}
