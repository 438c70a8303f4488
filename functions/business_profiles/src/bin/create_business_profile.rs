//! The Lambda of `POST /api/business-profiles`.

use oslira_fn_business_profiles::create_business_profile;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Write(GENERAL), move |request| create_business_profile(request, db.clone())).await
}
