//! The Lambda of `GET /api/analysis/{runId}/result`.

use oslira_aws::limits::GENERAL;
use oslira_fn_analysis::{Config, Deps, get_result};
use oslira_http::{RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<Config>()?;
    let deps = Deps::new(&init.config, &init);
    run(deps.guard.clone(), RateLimit::Concurrent(GENERAL), move |request| get_result(request, deps.clone())).await
}
