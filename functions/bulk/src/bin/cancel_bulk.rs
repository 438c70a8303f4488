//! The Lambda of `POST /api/leads/analyze/bulk/{batchId}/cancel`.

use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_aws::progress::ProgressTable;
use oslira_fn_bulk::cancel_bulk;
use oslira_http::{Access, Environment, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let environment = Environment::start()?;
    let (executions, progress) = (Executions::from_env(&environment.config)?, ProgressTable::from_env(&environment.config)?);
    let gateway = environment.gateway.clone();
    let handler = move |request| cancel_bulk(request, environment.clone(), executions.clone(), progress.clone());
    run(gateway, Access::Write(GENERAL), handler).await
}
