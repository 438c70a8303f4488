//! `GET /api/leads/analyze/bulk/{batchId}/progress`

use oslira_domain::{BatchId, FailureCode};
use oslira_http::{Environment, Problem, Reply, Request};
use serde_json::{Value, json};

/// Shows how far a batch is: how many of its runs are where, and each of them in short. All of it is counted from the runs in one query;
/// what was refused when the batch was made is not in it.
///
/// # Errors
/// `NOT_FOUND` 404 for unknown batches and those of other accounts.
pub async fn get_bulk_progress(request: Request, environment: Environment) -> Result<Reply, Problem> {
    let batch_id: BatchId = request.path("batchId")?;
    let found = environment.db.batch(&request.caller.claims(), request.caller.account_id, &batch_id).await?;
    let mut batch = found.ok_or_else(|| Problem::not_found("Batch"))?;
    for run in batch["analyses"].as_array_mut().into_iter().flatten() {
        let code = run["error_code"].as_str().and_then(|code| code.parse::<FailureCode>().ok());
        run["error"] = code.map_or(Value::Null, |code| json!({ "code": code, "message": code.message() }));
    }
    batch["message"] = message(&batch).into();
    Reply::ok(&batch)
}

fn message(batch: &Value) -> String {
    let count = |name: &str| batch["status_counts"][name].as_i64().unwrap_or_default();
    let ended = count("completed") + count("failed") + count("cancelled");
    if batch["is_complete"] == true {
        format!("The batch is complete: {} completed, {} failed, {} cancelled.", count("completed"), count("failed"), count("cancelled"))
    } else {
        format!("{ended} of {} analyses have ended.", batch["total_count"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_where_it_stands() {
        let counts = json!({ "pending": 1, "processing": 1, "completed": 2, "failed": 1, "cancelled": 0 });
        let batch = |done: bool| json!({ "total_count": 5, "is_complete": done, "status_counts": counts });
        assert_eq!(message(&batch(false)), "3 of 5 analyses have ended.");
        assert_eq!(message(&batch(true)), "The batch is complete: 2 completed, 1 failed, 0 cancelled.");
    }
}
