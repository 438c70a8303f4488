//! `POST /api/leads/analyze/bulk/{batchId}/cancel`

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_aws::progress::ProgressTable;
use oslira_domain::{BatchId, RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Environment, Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

/// How many executions are stopped at once.
const AT_ONCE: usize = 10;

/// How long the answer waits for them: what counts is in the database by then.
const PATIENCE: Duration = Duration::from_secs(12);

/// A batch of which nothing is under way any more.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancelledBatch")]
struct Cancellation {
    batch_id: BatchId,
    cancelled: i64,
    newly_cancelled: i64,
    completed: i64,
    failed: i64,
    total: i64,
    credits_refunded: i64,
    message: String,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<BatchId>("batchId")
        .limited(&[GENERAL])
        .responds::<Cancellation>(200)
        .refuses(&errors::FORBIDDEN.meaning("Viewers cannot cancel analyses."))
        .refuses(&errors::BATCH_NOT_FOUND)
        .end();
}

/// Cancels the runs of a batch that have not ended and refunds their credits, in one transaction. Runs that have ended stay as they are.
/// Cancelling a cancelled batch returns the same counts, with `newly_cancelled` 0. Requires at least the role `member`.
#[endpoint(POST, "/api/leads/analyze/bulk/{batchId}/cancel")]
pub async fn cancel_bulk(
    request: Request,
    environment: Environment,
    executions: Executions,
    progress: ProgressTable,
) -> Result<Reply, Problem> {
    let batch_id: BatchId = request.path("batchId")?;
    let outcome = environment.db.cancel_batch(&request.caller.claims(), request.caller.requested_account, &batch_id).await?;
    match outcome.outcome.as_str() {
        "cancelled" => {}
        "forbidden" => return Err(Problem::of(&errors::FORBIDDEN).message("Viewers cannot cancel analyses.")),
        _ => return Err(Problem::of(&errors::BATCH_NOT_FOUND)),
    }
    // Also those that were cancelled before: that call may have died before it came here.
    let now = request.received_at;
    let stops = outcome.begun.into_iter().map(|run_id| stop(run_id, executions.clone(), progress.clone(), now));
    if tokio::time::timeout(PATIENCE, futures::stream::iter(stops).buffer_unordered(AT_ONCE).collect::<()>()).await.is_err() {
        tracing::warn!("not all executions are stopped"); // their tasks ask the database before they spend anything
    }
    Reply::ok(&Cancellation {
        message: format!("{} of {} analyses are cancelled. You were not charged for them.", outcome.cancelled, outcome.total),
        batch_id,
        cancelled: outcome.cancelled,
        newly_cancelled: outcome.newly,
        completed: outcome.completed,
        failed: outcome.failed,
        total: outcome.total,
        credits_refunded: outcome.credits_refunded,
    })
}

async fn stop(run_id: RunId, executions: Executions, progress: ProgressTable, now: Timestamp) {
    let (stopped, shown) = tokio::join!(executions.stop(&run_id), progress.end(&run_id, RunStatus::Cancelled, None, &[], now));
    for (what, result) in [("execution not stopped", stopped), ("progress not updated", shown)] {
        if let Err(error) = result {
            tracing::warn!(%error, %run_id, what); // its tasks ask the database before they spend anything
        }
    }
}
