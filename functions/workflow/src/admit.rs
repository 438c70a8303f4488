//! `Admit`: steps 2 to 5 in one transaction.

use jiff::Timestamp;
use oslira_domain::{FailureCode, RunStatus, Step};
use serde_json::Value;

use crate::error::TaskError;
use crate::state::{AdmitInput, Admitted};
use crate::task::{Deps, input, shown};

/// Records the run, checks for a twin and for credits, and charges it: all or nothing.
///
/// # Errors
/// `DuplicateAnalysis`, `InsufficientCredits`, `BusinessProfileNotFound`; `Cancelled` if its user was faster.
pub async fn admit(payload: Value, deps: Deps) -> Result<Admitted, TaskError> {
    let AdmitInput { run, mut steps } = input(payload)?;
    let admission = deps.db.admit(&run).await?;
    match admission.outcome.parse() {
        _ if admission.outcome == "admitted" => {}
        Ok(RunStatus::Failed) => {
            let code = admission.error_code.unwrap_or(FailureCode::InternalError);
            deps.show_end(&run.run_id, RunStatus::Failed, Some(code), &steps).await;
            return Err(TaskError::Final(code));
        }
        Ok(status) => return Err(TaskError::Ended(status)),
        Err(_) => return Err(TaskError::Defect(format!("unknown outcome {}", admission.outcome))),
    }
    steps.extend(admission.steps);
    shown(deps.progress.advance(&run, Step::CheckCache, &steps, Timestamp::now()).await);
    Ok(Admitted { calls: run.tier.calls().to_vec(), steps })
}
