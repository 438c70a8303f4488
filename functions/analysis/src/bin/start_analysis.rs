//! The Lambda of `POST /api/leads/analyze`.

use oslira_fn_analysis::{Deps, start_analysis};
use oslira_http::{Access, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deps = Deps::from_env()?;
    let executions = deps.executions()?;
    run(deps.gateway.clone(), Access::Own, move |request| start_analysis(request, deps.clone(), executions.clone())).await
}
