//! The Lambda of `POST /api/business-profiles`.

use oslira_fn_business_profiles::create_business_profile;
use oslira_http::{Endpoint, GENERAL, RateLimit, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Endpoint { guard, db } = Endpoint::init()?;
    run(guard, RateLimit::Before(GENERAL), move |request| create_business_profile(request, db.clone())).await
}
