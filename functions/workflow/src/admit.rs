//! `Admit`: steps 2 to 5 in one transaction.

use jiff::Timestamp;
use oslira_db::workflow::AdmissionOutcome;
use oslira_domain::{ExecutionInput, FailureCode, RunStatus, Step};
use serde_json::Value;

use crate::error::TaskError;
use crate::state::StepsEnded;
use crate::task::{Deps, input, log_progress_error};

/// Records the run, checks for a live run of the same handle and for credits, and charges it: all or nothing.
///
/// # Errors
/// Terminal with `DUPLICATE_ANALYSIS`, `INSUFFICIENT_CREDITS` or `BUSINESS_PROFILE_NOT_FOUND`, or for a run that has ended.
pub async fn admit(payload: Value, deps: Deps) -> Result<StepsEnded, TaskError> {
    let ExecutionInput { run, mut steps } = input(payload)?;
    let admission = deps.db.admit(&run).await?;
    match admission.outcome {
        AdmissionOutcome::Admitted => {}
        // `Compensate` follows and writes the end to the progress item.
        AdmissionOutcome::Failed => return Err(TaskError::Terminal(admission.error_code.unwrap_or(FailureCode::InternalError))),
        AdmissionOutcome::Completed => return Err(TaskError::Ended(RunStatus::Completed)),
        AdmissionOutcome::Cancelled => return Err(TaskError::Ended(RunStatus::Cancelled)),
    }
    steps.extend(admission.steps);
    log_progress_error(deps.progress.advance(&run, Step::CheckCache, &steps, Timestamp::now()).await);
    Ok(StepsEnded { steps })
}
