//! The Lambda of `GET /api/business-profiles`.

use oslira_fn_business_profiles::list_business_profiles;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| list_business_profiles(request, db.clone())).await
}
