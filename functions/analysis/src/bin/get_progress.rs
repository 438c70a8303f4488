//! The Lambda of `GET /api/analysis/{runId}/progress`.

use oslira_aws::limits::PROGRESS;
use oslira_fn_analysis::{Deps, get_progress};
use oslira_http::{Access, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deps = Deps::from_env()?;
    run(deps.gateway.clone(), Access::Read(PROGRESS), move |request| get_progress(request, deps.clone())).await
}
