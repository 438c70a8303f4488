//! `POST /api/leads/analyze/bulk/{batchId}/cancel`

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_aws::progress::ProgressTable;
use oslira_db::UserDb;
use oslira_db::bulk::BatchCancellation;
use oslira_db::runs::RefundedCost;
use oslira_domain::{BatchId, RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

/// How many executions are stopped at once.
const CONCURRENCY: usize = 10;

/// How long the response waits for executions to stop. The cancellation itself is committed by then.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// A batch without live runs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancelledBatch")]
struct Cancellation {
    batch_id: BatchId,
    cancelled: i64,
    newly_cancelled: i64,
    completed: i64,
    failed: i64,
    total: i64,
    /// The charges of cancelled runs that were refunded.
    credits_refunded: i64,
    /// The charges of cancelled runs that were kept.
    credits_kept: i64,
    refunded_cost: RefundedCost,
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
///
/// The limit of `refunded_cost` applies to each run, as at `POST /api/analysis/{runId}/cancel`.
#[endpoint(POST, "/api/leads/analyze/bulk/{batchId}/cancel")]
pub async fn cancel_bulk(request: Request, db: UserDb, executions: Executions, progress: ProgressTable) -> Result<Reply, Problem> {
    let batch_id: BatchId = request.path("batchId")?;
    let caller = &request.caller;
    let batch = match db.cancel_batch(&caller.claims(), caller.requested_account, &batch_id).await? {
        BatchCancellation::Cancelled(batch) => batch,
        BatchCancellation::NotFound => return Err(Problem::of(&errors::BATCH_NOT_FOUND)),
        BatchCancellation::Forbidden => return Err(Problem::of(&errors::FORBIDDEN).message("Viewers cannot cancel analyses.")),
    };
    // Also the runs that were cancelled before: the process of that request may have died before this point.
    let stops = batch.begun.into_iter().map(|run_id| stop(run_id, executions.clone(), progress.clone(), request.received_at));
    if tokio::time::timeout(STOP_TIMEOUT, futures::stream::iter(stops).buffer_unordered(CONCURRENCY).collect::<()>()).await.is_err() {
        tracing::warn!("not all executions are stopped"); // the runs' tasks check their status before they spend anything
    }
    Reply::ok(&Cancellation {
        message: match batch.credits_kept {
            0 => format!("{} of {} analyses are cancelled. You were not charged for them.", batch.cancelled, batch.total),
            kept => format!(
                "{} of {} analyses are cancelled. {kept} credits are kept, because cancelled analyses have cost too much within 24 hours.",
                batch.cancelled, batch.total
            ),
        },
        batch_id,
        cancelled: batch.cancelled,
        newly_cancelled: batch.newly,
        completed: batch.completed,
        failed: batch.failed,
        total: batch.total,
        credits_refunded: batch.credits_refunded,
        credits_kept: batch.credits_kept,
        refunded_cost: batch.refunded_cost,
    })
}

async fn stop(run_id: RunId, executions: Executions, progress: ProgressTable, now: Timestamp) {
    let (stopped, written) = tokio::join!(executions.stop(&run_id), progress.end(&run_id, RunStatus::Cancelled, None, &[], now));
    for (message, result) in [("execution not stopped", stopped), ("progress not written", written)] {
        if let Err(error) = result {
            tracing::warn!(%error, %run_id, message); // the run's tasks check its status before they spend anything
        }
    }
}
