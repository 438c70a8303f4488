//! The Lambda of `POST /api/leads/{leadId}/refresh-check`.

use oslira_aws::functions::Function;
use oslira_fn_cache::{REFRESH_TIMEOUT, RefreshCheckConfig, refresh_check};
use oslira_http::{Endpoint, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<RefreshCheckConfig>()?;
    let Endpoint { guard, db } = Endpoint::new(&init.config.endpoint, &init);
    let scraper = Function::new(&init.aws, init.config.refresh_profile_function, REFRESH_TIMEOUT);
    run(guard.clone(), RateLimit::InHandler, move |request| refresh_check(request, guard.clone(), db.clone(), scraper.clone())).await
}
