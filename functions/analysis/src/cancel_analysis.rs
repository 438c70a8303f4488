//! `POST /api/analysis/{runId}/cancel`

use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_db::runs::{Cancellation, RefundedCost};
use oslira_domain::{RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Deps, cancelled_message};

/// A cancelled run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancelledAnalysis")]
pub struct Cancelled {
    run_id: RunId,
    status: RunStatus,
    /// The run's charge, if it was refunded.
    credits_refunded: i32,
    /// The run's charge, if it was kept.
    credits_kept: i32,
    refunded_cost: RefundedCost,
    message: &'static str,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<RunId>("runId")
        .limited(&[GENERAL])
        .responds::<Cancelled>(200)
        .refuses(&errors::FORBIDDEN.meaning("Viewers cannot cancel analyses."))
        .refuses(&errors::ANALYSIS_NOT_FOUND)
        .refuses(&errors::ALREADY_COMPLETE)
        .end();
}

/// Cancels a run and refunds its credits. Cancelling a cancelled run changes nothing and returns the same credits. Requires at least the role
/// `member`.
///
/// What vendors charge for a cancelled run is not charged to the account up to a limit in 24 hours, `refunded_cost`. Beyond it, a run that has
/// begun to ask models (step 9) is cancelled but keeps its charge, as `credits_kept` states.
///
/// One transaction cancels and refunds; a run that completes first stays completed.
#[endpoint(POST, "/api/analysis/{runId}/cancel")]
pub async fn cancel_analysis(request: Request, deps: Deps, executions: Executions) -> Result<Reply, Problem> {
    let run_id: RunId = request.path("runId")?;
    tracing::Span::current().record("run_id", run_id.as_str());
    let item = deps.progress.get(&run_id, request.received_at).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "progress not read");
        None
    });
    let accepted = item.map(|item| item.run);
    let ended = |how: &str| Problem::of(&errors::ALREADY_COMPLETE).message(format!("The analysis has already {how}."));
    let caller = &request.caller;
    let cancelled = deps.db.cancel(&caller.claims(), caller.requested_account, &run_id, accepted.as_ref()).await?;
    let (credits_refunded, credits_kept, refunded_cost) = match cancelled {
        Cancellation::Cancelled { credits_refunded, credits_kept, refunded_cost } => (credits_refunded, credits_kept, refunded_cost),
        Cancellation::Completed => return Err(ended("completed")),
        Cancellation::Failed => return Err(ended("failed")),
        Cancellation::NotFound => return Err(Problem::of(&errors::ANALYSIS_NOT_FOUND)),
        Cancellation::Forbidden => return Err(Problem::of(&errors::FORBIDDEN).message("Viewers cannot cancel analyses.")),
    };
    // Also for a run that was cancelled before: the process of that request may have died before this point.
    let (stopped, written) =
        tokio::join!(executions.stop(&run_id), deps.progress.end(&run_id, RunStatus::Cancelled, None, &[], request.received_at));
    for (message, result) in [("execution not stopped", stopped), ("progress not written", written)] {
        if let Err(error) = result {
            tracing::warn!(%error, message); // the run's tasks check its status before they spend anything
        }
    }
    Reply::ok(&Cancelled {
        run_id,
        status: RunStatus::Cancelled,
        credits_refunded,
        credits_kept,
        refunded_cost,
        message: cancelled_message(credits_kept),
    })
}
