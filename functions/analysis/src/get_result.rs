//! `GET /api/analysis/{runId}/result`

use http::StatusCode;
use oslira_db::runs::RunRow;
use oslira_domain::{Performance, RunId, RunStatus};
use oslira_http::{Problem, Reply, Request};
use serde_json::{Map, Value, json};

use crate::Deps;

/// The result of a completed run: every field of its tier, flat, with what it cost.
///
/// # Errors
/// `NOT_FOUND` 404; `NOT_COMPLETE` 425 while it runs; `ANALYSIS_FAILED` and `ANALYSIS_CANCELLED` 409 for a run that ended without a
/// result, with the reason.
pub async fn get_result(request: Request, deps: Deps) -> Result<Reply, Problem> {
    let run_id: RunId = request.path("runId")?;
    tracing::Span::current().record("run_id", run_id.as_str());
    let view = deps.db.run(&request.caller.claims(), &run_id).await?;
    let Some(row) = view.run else {
        // Accepted, but not admitted yet: only progress knows it. A run that has ended has a row; one that cannot be seen went with its lead.
        let item = deps.progress.get(&run_id, request.received_at).await?;
        let known = item.is_some_and(|item| view.account_ids.contains(&item.run.account_id) && !item.status.is_terminal());
        return Err(if known { not_complete(&run_id, RunStatus::Pending) } else { Problem::not_found("Analysis") });
    };
    match row.status {
        RunStatus::Completed => Reply::ok(&result(&run_id, row)),
        RunStatus::Failed => {
            let code = row.error_code.map_or("INTERNAL_ERROR", |code| code.as_str());
            let message = row.error_code.map_or("The analysis failed.", |code| code.message());
            let details = json!({ "run_id": run_id, "code": code, "details": row.error_details, "credits_refunded": row.credits_refunded });
            Err(Problem::new(StatusCode::CONFLICT, "ANALYSIS_FAILED", message).with_details(details))
        }
        RunStatus::Cancelled => {
            let details = json!({ "run_id": run_id, "credits_refunded": row.credits_refunded });
            Err(Problem::new(StatusCode::CONFLICT, "ANALYSIS_CANCELLED", "The analysis was cancelled.").with_details(details))
        }
        status => Err(not_complete(&run_id, status)),
    }
}

fn not_complete(run_id: &RunId, status: RunStatus) -> Problem {
    let details = json!({ "run_id": run_id, "status": status, "progress_url": format!("/api/analysis/{run_id}/progress") });
    Problem::new(StatusCode::TOO_EARLY, "NOT_COMPLETE", "The analysis is still running.").with_details(details).with_retry_after(1)
}

/// The tier's fields and, over them, what the row itself knows.
fn result(run_id: &RunId, row: RunRow) -> Map<String, Value> {
    let own = json!({
        "run_id": run_id,
        "lead_id": row.lead_id,
        "analysis_id": row.analysis_id,
        "status": row.status,
        "username": row.username,
        "analysis_type": row.tier,
        "metrics": row.metrics,
        "model_used": row.model_used,
        "cache_hit": row.cache_hit,
        "credits_charged": row.credits_charged,
        "actual_cost_micro_usd": row.total_cost_micro_usd,
        "cost": row.cost,
        "processing_duration_ms": row.processing_duration_ms,
        "performance": Performance::of(&row.steps, row.processing_duration_ms.unwrap_or_default()),
        "created_at": row.created_at,
        "completed_at": row.completed_at,
    });
    let mut fields = match row.ai_response {
        Value::Object(mut said) => said.remove("report").and_then(|report| report.as_object().cloned()).unwrap_or_default(),
        _ => Map::new(),
    };
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    fields
}
