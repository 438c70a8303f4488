//! The Lambda of `GET /api/analysis/{runId}/progress`.

use oslira_aws::limits::PROGRESS;
use oslira_fn_analysis::{Config, Deps, get_progress};
use oslira_http::{RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<Config>()?;
    let deps = Deps::new(&init.config, &init);
    run(deps.guard.clone(), RateLimit::Concurrent(PROGRESS), move |request| get_progress(request, deps.clone())).await
}
