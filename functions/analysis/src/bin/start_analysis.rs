//! The Lambda of `POST /api/leads/analyze`.

use oslira_aws::executions::Executions;
use oslira_fn_analysis::{Deps, ExecutionsConfig, start_analysis};
use oslira_http::{RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<ExecutionsConfig>()?;
    let deps = Deps::new(&init.config.common, &init);
    let executions = Executions::new(&init.aws, init.config.state_machine_arn);
    executions.warm_up();
    run(deps.guard.clone(), RateLimit::InHandler, move |request| start_analysis(request, deps.clone(), executions.clone())).await
}
