//! The Lambda of `POST /api/leads/analyze/bulk/{batchId}/cancel`.

use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_aws::progress::ProgressTable;
use oslira_fn_bulk::{CancelConfig, cancel_bulk};
use oslira_http::{Endpoint, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<CancelConfig>()?;
    let Endpoint { guard, db } = Endpoint::new(&init.config.endpoint, &init);
    let executions = Executions::new(&init.aws, init.config.state_machine_arn);
    let progress = ProgressTable::new(&init.aws, init.config.progress_table);
    run(guard, RateLimit::Before(GENERAL), move |request| cancel_bulk(request, db.clone(), executions.clone(), progress.clone())).await
}
