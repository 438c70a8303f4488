//! `POST /api/analysis/{runId}/cancel`

use http::StatusCode;
use oslira_aws::executions::Executions;
use oslira_aws::limits::GENERAL;
use oslira_domain::{RunId, RunStatus};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request};
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

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("cancel_analysis.rs"))
        .path::<RunId>("runId")
        .limited(&[GENERAL])
        .answers::<Cancelled>(200)
        .refuses(403, "FORBIDDEN", "Viewers cannot cancel analyses.")
        .not_found("analysis")
        .refuses(409, "ALREADY_COMPLETE", "It has completed or failed.")
        .end();
}

/// Cancels a run and gives its credits back; a second cancel answers the same. The database decides: one transaction cancels and
/// refunds, and a completion that was first wins. Stopping the execution afterwards only saves vendor calls.
///
/// # Errors
/// `NOT_FOUND` 404, `FORBIDDEN` 403 for a viewer, `ALREADY_COMPLETE` 409 for a run that ended otherwise.
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
        "not_found" => return Err(Problem::not_found("Analysis")),
        "forbidden" => return Err(Problem::forbidden("Viewers cannot cancel analyses.")),
        ended => {
            let message = format!("The analysis has {ended} already.");
            return Err(Problem::new(StatusCode::CONFLICT, "ALREADY_COMPLETE", message));
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
