//! `POST /api/leads/analyze/bulk/{batchId}/cancel`

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_aws::progress::ProgressTable;
use oslira_domain::{BatchId, RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Environment, Problem, Reply, Request};
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

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("cancel_bulk.rs"))
        .path::<BatchId>("batchId")
        .limited(&[GENERAL])
        .answers::<Cancellation>(200)
        .refuses(403, "FORBIDDEN", "Viewers cannot cancel analyses.")
        .not_found("batch")
        .end();
}

/// Cancels what waits and what runs of a batch and gives the credits back, in one transaction; what has ended stays. A second cancel
/// answers the same. Groups that are still queued find their runs cancelled, and stopping executions afterwards only saves vendor calls.
///
/// # Errors
/// `NOT_FOUND` 404, `FORBIDDEN` 403 for a viewer.
pub async fn cancel_bulk(
    request: Request,
    environment: Environment,
    executions: Executions,
    progress: ProgressTable,
) -> Result<Reply, Problem> {
    let batch_id: BatchId = request.path("batchId")?;
    let outcome = environment.db.cancel_batch(&request.caller.claims(), request.caller.account_id, &batch_id).await?;
    match outcome.outcome.as_str() {
        "cancelled" => {}
        "forbidden" => return Err(Problem::forbidden("Viewers cannot cancel analyses.")),
        _ => return Err(Problem::not_found("Batch")),
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
