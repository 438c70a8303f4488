//! `GET /api/leads/analyze/bulk/{batchId}/progress`

use std::time::Duration;

use oslira_aws::limits::PROGRESS;
use oslira_db::bulk::{Batch, StatusCounts};
use oslira_db::{UserDb, within};
use oslira_domain::BatchId;
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};

/// How long a request waits for the database, as for the progress of a single run.
const PATIENCE: Duration = Duration::from_secs(4);

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<BatchId>("batchId")
        .limited(&[PROGRESS])
        .responds::<Batch>(200)
        .requires_account()
        .refuses(&errors::BATCH_NOT_FOUND)
        .end();
}

/// Returns the progress of a batch: the number of its runs by status, and a summary of each run. Handles that were refused when the batch
/// was created are not included.
#[endpoint(GET, "/api/leads/analyze/bulk/{batchId}/progress")]
pub async fn get_bulk_progress(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let batch_id: BatchId = request.path("batchId")?;
    let claims = request.caller.claims();
    let found = within(PATIENCE, db.batch(&claims, request.caller.requested_account, &batch_id)).await?;
    let mut batch = found.ok_or(&errors::BATCH_NOT_FOUND)?;
    for run in &mut batch.analyses {
        run.error = run.error_code.map(Into::into);
    }
    batch.message = message(&batch.status_counts, batch.is_complete, batch.total_count);
    Reply::ok(&batch)
}

fn message(counts: &StatusCounts, is_complete: bool, total: i64) -> String {
    let StatusCounts { completed, failed, cancelled, .. } = counts;
    if is_complete {
        format!("The batch is complete: {completed} completed, {failed} failed, {cancelled} cancelled.")
    } else {
        format!("{} of {total} analyses have ended.", completed + failed + cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_how_many_runs_have_ended() {
        let counts = StatusCounts { pending: 1, processing: 1, completed: 2, failed: 1, cancelled: 0 };
        assert_eq!(message(&counts, false, 5), "3 of 5 analyses have ended.");
        assert_eq!(message(&counts, true, 5), "The batch is complete: 2 completed, 1 failed, 0 cancelled.");
    }
}
