//! The Lambda of `GET /api/analysis/{runId}/result`.

use oslira_aws::limits::GENERAL;
use oslira_fn_analysis::{Deps, get_result};
use oslira_http::{Access, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deps = Deps::from_env()?;
    run(deps.gateway.clone(), Access::Read(GENERAL), move |request| get_result(request, deps.clone())).await
}
