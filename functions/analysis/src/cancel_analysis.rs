//! `POST /api/analysis/{runId}/cancel`

use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_domain::{RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Deps;

/// A cancelled run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CancelledAnalysis")]
pub struct Cancelled {
    run_id: RunId,
    status: RunStatus,
    credits_refunded: i32,
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

/// Cancels a run and refunds its credits. Cancelling a cancelled run returns the same response. Requires at least the role `member`.
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
    let outcome = deps.db.cancel(&request.caller.claims(), &run_id, accepted.as_ref()).await?;
    match outcome.outcome.as_str() {
        "cancelled" => {}
        "not_found" => return Err(Problem::of(&errors::ANALYSIS_NOT_FOUND)),
        "forbidden" => return Err(Problem::of(&errors::FORBIDDEN).message("Viewers cannot cancel analyses.")),
        ended => {
            let message = format!("The analysis has already {ended}.");
            return Err(Problem::of(&errors::ALREADY_COMPLETE).message(message));
        }
    }
    // Also when it was cancelled before: that call may have died before it came here.
    let (stopped, shown) =
        tokio::join!(executions.stop(&run_id), deps.progress.end(&run_id, RunStatus::Cancelled, None, &[], request.received_at));
    for (what, result) in [("execution not stopped", stopped), ("progress not updated", shown)] {
        if let Err(error) = result {
            tracing::warn!(%error, what); // its tasks ask the database before they spend anything
        }
    }
    Reply::ok(&Cancelled {
        run_id,
        status: RunStatus::Cancelled,
        credits_refunded: outcome.credits_refunded,
        message: "The analysis was cancelled. You were not charged.",
    })
}
