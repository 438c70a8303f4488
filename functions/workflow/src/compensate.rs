//! `Compensate`: ends a run without a result and gives its credits back.

use oslira_domain::{FailureCode, Run, RunId, RunStatus, StepTiming};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{TaskError, failure_code};
use crate::state::{Admitted, ProfileState};
use crate::task::Deps;

/// What the state machine hands over when a state has failed for good.
#[derive(Debug, Deserialize)]
struct FailedState {
    run: Run,
    #[serde(default)]
    admission: Option<Admitted>,
    #[serde(default)]
    profile: Option<ProfileState>,
    error: StateError,
}

#[derive(Debug, Deserialize)]
struct StateError {
    #[serde(rename = "Error", default)]
    name: String,
}

/// What EventBridge tells of an execution that ended FAILED, `TIMED_OUT` or ABORTED. The execution's name is the run's id; its input is
/// absent when it was too large to be included.
#[derive(Debug, Deserialize)]
struct EndedExecution {
    detail: ExecutionDetail,
}

#[derive(Debug, Deserialize)]
struct ExecutionDetail {
    name: String,
    status: String,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ExecutionInput {
    run: Run,
}

/// How the run ended.
#[derive(Debug, Serialize)]
pub struct Compensated {
    status: Option<RunStatus>,
    error_code: Option<FailureCode>,
    credits_refunded: i32,
}

/// A failure to book: whose, and why.
struct Loss {
    run_id: RunId,
    run: Option<Run>,
    code: FailureCode,
    steps: Vec<StepTiming>,
}

/// Fails the run and refunds its charge, once, in one transaction; a run that has ended already stays as it is. Called by the state
/// machine, and by EventBridge for executions that could not call it themselves.
///
/// # Errors
/// Retryable ones only. An event about an execution that is no analysis is logged and forgotten.
pub async fn compensate(payload: Value, deps: Deps) -> Result<Compensated, TaskError> {
    let Some(loss) = read(payload) else {
        tracing::error!("neither a failed state nor an ended execution of ours");
        return Ok(Compensated { status: None, error_code: None, credits_refunded: 0 });
    };
    let booked = deps.db.fail(&loss.run_id, loss.run.as_ref(), loss.code, &loss.steps).await?;
    if let Some(status) = booked.status {
        deps.show_end(&loss.run_id, status, booked.error_code, &loss.steps).await;
    }
    tracing::info!(run_id = %loss.run_id, code = %loss.code, status = booked.status.map(RunStatus::as_str), credits_refunded = booked.credits_refunded, "compensated");
    Ok(Compensated { status: booked.status, error_code: booked.error_code, credits_refunded: booked.credits_refunded })
}

fn read(payload: Value) -> Option<Loss> {
    if payload.get("detail").is_some() {
        let detail = serde_json::from_value::<EndedExecution>(payload).ok()?.detail;
        let code = match detail.status.as_str() {
            "ABORTED" => FailureCode::Aborted,
            "TIMED_OUT" => FailureCode::TimedOut,
            _ => failure_code(detail.error.as_deref().unwrap_or_default()),
        };
        let run = detail.input.and_then(|input| serde_json::from_str::<ExecutionInput>(&input).ok()).map(|input| input.run);
        return Some(Loss { run_id: detail.name.parse().ok()?, run, code, steps: Vec::new() });
    }
    let state: FailedState = serde_json::from_value(payload).ok()?;
    let steps = state.admission.map(|added| added.steps).into_iter().chain(state.profile.map(|added| added.steps)).flatten().collect();
    Some(Loss { run_id: state.run.run_id.clone(), run: Some(state.run), code: failure_code(&state.error.name), steps })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run() -> Value {
        json!({
            "run_id": "run_019300000000700080000000000000ff", "account_id": "00000000-0000-0000-0000-000000000001",
            "business_profile_id": "00000000-0000-0000-0000-000000000002", "requested_by": "00000000-0000-0000-0000-000000000003",
            "username": "nike", "tier": "deep", "requested_at_ms": 1
        })
    }

    #[test]
    fn a_failed_state_says_which_run_and_why() {
        let loss = read(json!({ "run": run(), "error": { "Error": "ProfilePrivate", "Cause": "{}" } })).unwrap();
        assert_eq!((loss.run_id.as_str(), loss.code), ("run_019300000000700080000000000000ff", FailureCode::ProfilePrivate));
        assert!(loss.run.is_some());
    }

    #[test]
    fn an_ended_execution_says_which_run_even_without_its_input() {
        let event = |detail: Value| json!({ "source": "aws.states", "detail": detail });
        let id = "run_019300000000700080000000000000ff";
        let loss = read(event(json!({ "name": id, "status": "ABORTED", "input": json!({ "run": run() }).to_string() }))).unwrap();
        assert_eq!((loss.code, loss.run.is_some()), (FailureCode::Aborted, true));
        let loss = read(event(json!({ "name": id, "status": "TIMED_OUT", "input": null }))).unwrap();
        assert_eq!((loss.code, loss.run.is_some()), (FailureCode::TimedOut, false));
        let loss = read(event(json!({ "name": id, "status": "FAILED", "error": "RetryableModel" }))).unwrap();
        assert_eq!(loss.code, FailureCode::AiFailed);
        assert!(read(event(json!({ "name": "somebody-elses", "status": "FAILED" }))).is_none());
        assert!(read(json!({ "hello": 1 })).is_none());
    }
}
