//! The Lambda of `POST /api/leads/{leadId}/refresh-check`.

use oslira_aws::functions::Function;
use oslira_fn_cache::{ANSWER_TIMEOUT, refresh_check};
use oslira_http::{Access, Environment, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, config, .. } = Environment::start()?;
    let scraper = Function::from_env(&config, "REFRESH_PROFILE_FUNCTION", ANSWER_TIMEOUT)?;
    run(gateway.clone(), Access::Own, move |request| refresh_check(request, gateway.clone(), db.clone(), scraper.clone())).await
}
