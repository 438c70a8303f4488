//! The Lambda of `POST /api/analysis/{runId}/cancel`.

use oslira_aws::limits::GENERAL;
use oslira_fn_analysis::{Deps, cancel_analysis};
use oslira_http::{Access, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deps = Deps::from_env()?;
    let executions = deps.executions()?;
    run(deps.gateway.clone(), Access::Write(GENERAL), move |request| cancel_analysis(request, deps.clone(), executions.clone())).await
}
