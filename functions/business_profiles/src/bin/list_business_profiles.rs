//! The Lambda of `GET /api/business-profiles`.

use oslira_fn_business_profiles::list_business_profiles;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Concurrent(GENERAL), move |request| list_business_profiles(request, db.clone())).await
}
