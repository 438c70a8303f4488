//! The Lambda of `GET /api/business-profiles/{profileId}`.

use oslira_fn_business_profiles::get_business_profile;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| get_business_profile(request, db.clone())).await
}
