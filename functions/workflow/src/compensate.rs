//! `Compensate`: ends a run without a result and refunds its credits.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{LambdaEvent, service_fn};
use oslira_domain::{ExecutionInput, FailureCode, Run, RunId, RunStatus, StepTiming};
use oslira_lambda::queue::{self, Message, MessageError};
use oslira_lambda::{Event, task};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{TaskError, failure_code};
use crate::state::StepsEnded;
use crate::task::{Deps, input};

/// The input from the state machine, when a state has failed for good.
#[derive(Debug, Deserialize)]
struct FailedState {
    run: Run,
    #[serde(default)]
    admission: StepsEnded,
    #[serde(default)]
    profile: StepsEnded,
    #[serde(default)]
    analysis: StepsEnded,
    error: StateError,
}

#[derive(Debug, Deserialize)]
struct StateError {
    #[serde(rename = "Error", default)]
    name: String,
    #[serde(rename = "Cause", default)]
    cause: Option<String>,
}

/// The detail of EventBridge's event for an execution that ended FAILED, `TIMED_OUT` or ABORTED. The execution's name is the run's id. Its input
/// is absent when it was too large to be included.
#[derive(Debug, Serialize, Deserialize)]
struct ExecutionStatusChange {
    name: String,
    status: String,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    cause: Option<String>,
}

/// The run after its compensation.
#[derive(Debug, Serialize)]
struct Compensated {
    status: Option<RunStatus>,
    error_code: Option<FailureCode>,
    credits_refunded: i32,
}

/// A run to compensate, and why it failed.
struct Compensation {
    run_id: RunId,
    run: Option<Run>,
    code: FailureCode,
    steps: Vec<StepTiming>,
}

/// The function's response.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Response {
    /// To the state machine.
    Run(Compensated),
    /// To the queue: the messages that stay in it.
    Batch(SqsBatchResponse),
}

/// Runs `Compensate` until the environment ends: for the state machine, and for the queue that EventBridge fills with executions that could not
/// call it themselves. A message whose run cannot be compensated now stays in the queue and is redelivered.
///
/// # Errors
/// Fails when the runtime cannot be reached.
pub async fn serve_compensate(deps: Deps) -> Result<(), lambda_runtime::Error> {
    let deps = &deps;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        if event.payload.get("Records").is_none() {
            let by_state = async |event: Event<Value>, deps: &Deps| compensate(event.payload, deps.clone()).await;
            return task::invoke(event, deps, &by_state).await.map(Response::Run);
        }
        let messages: SqsEvent = input(event.payload)?;
        let by_queue = async |message: Message, deps: &Deps| compensate_execution(message, deps.clone()).await;
        Ok(Response::Batch(queue::invoke(&messages, &event.context, None, deps, &by_queue).await))
    }))
    .await
}

/// Fails the run and refunds its charge, once, in one transaction. A run that has ended already stays as it is.
///
/// # Errors
/// Retryable ones; terminal for an input that is no failed state.
async fn compensate(payload: Value, deps: Deps) -> Result<Compensated, TaskError> {
    Compensation::of_state(input(payload)?).apply(&deps).await
}

/// Compensates the run of an execution that ended without the state `Compensate`.
async fn compensate_execution(message: Message, deps: Deps) -> Result<(), MessageError> {
    let event =
        serde_json::from_str(&message.body).map_err(|error| MessageError::Poison(format!("not the end of an execution: {error}")))?;
    let Some(compensation) = Compensation::of_execution(event) else {
        tracing::warn!("the execution is not named after a run"); // it was started by hand
        return Ok(());
    };
    let span = tracing::Span::current();
    span.record("run_id", compensation.run_id.as_str());
    if let Some(run) = &compensation.run {
        span.record("account_id", run.account_id.to_string());
    }
    Ok(compensation.apply(&deps).await.map(drop)?)
}

/// The message is redelivered in either case. An error that a retry cannot change also counts as a defect, which an operator has to correct.
impl From<TaskError> for MessageError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Database(error) => error.into(),
            TaskError::Aws(error) => error.into(),
            error => Self::Poison(error.to_string()),
        }
    }
}

impl Compensation {
    fn of_state(state: FailedState) -> Self {
        let steps = [state.admission.steps, state.profile.steps, state.analysis.steps].concat();
        let code = failure_code(&state.error.name, state.error.cause.as_deref());
        Self { run_id: state.run.run_id.clone(), run: Some(state.run), code, steps }
    }

    /// Returns `None` for an execution that is not named after a run.
    fn of_execution(event: EventBridgeEvent<ExecutionStatusChange>) -> Option<Self> {
        let execution = event.detail;
        let code = match execution.status.as_str() {
            "ABORTED" => FailureCode::Aborted,
            "TIMED_OUT" => FailureCode::TimedOut,
            _ => failure_code(execution.error.as_deref().unwrap_or_default(), execution.cause.as_deref()),
        };
        let run = execution.input.and_then(|input| serde_json::from_str::<ExecutionInput>(&input).ok()).map(|input| input.run);
        Some(Self { run_id: execution.name.parse().ok()?, run, code, steps: Vec::new() })
    }

    async fn apply(self, deps: &Deps) -> Result<Compensated, TaskError> {
        let steps = self.steps_ended(deps).await;
        let failure = deps.db.fail(&self.run_id, self.run.as_ref(), self.code, &steps).await?;
        if let Some(status) = failure.status {
            deps.write_end(&self.run_id, status, failure.error_code, &steps).await;
        }
        let (status, credits_refunded) = (failure.status, failure.credits_refunded);
        tracing::info!(code = %self.code, status = status.map(RunStatus::as_str), credits_refunded, "compensated");
        Ok(Compensated { status, error_code: failure.error_code, credits_refunded })
    }

    /// Returns the steps that ended. The state that failed has no output, but its steps are in the progress item, which expires sooner than the
    /// run.
    async fn steps_ended(&self, deps: &Deps) -> Vec<StepTiming> {
        match deps.progress.get(&self.run_id, jiff::Timestamp::now()).await {
            Ok(Some(progress)) if progress.steps.len() > self.steps.len() => progress.steps,
            Ok(_) => self.steps.clone(),
            Err(error) => {
                tracing::warn!(%error, "progress not read");
                self.steps.clone()
            }
        }
    }
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
    fn a_failed_state_names_its_run_and_why_it_failed() {
        let state = json!({ "run": run(), "error": { "Error": "Terminal", "Cause": r#"{"errorType":"Terminal","errorMessage":"PROFILE_PRIVATE: private"}"# } });
        let compensation = Compensation::of_state(serde_json::from_value(state).unwrap());
        assert_eq!(
            (compensation.run_id.as_str(), compensation.code),
            ("run_019300000000700080000000000000ff", FailureCode::ProfilePrivate)
        );
        assert!(compensation.run.is_some());
    }

    #[test]
    fn an_ended_execution_names_its_run_even_without_its_input() {
        let compensation = |detail: Value| {
            let event = json!({
                "version": "0", "id": "315c1398-40ff-a850-213b-158f73e60175", "detail-type": "Step Functions Execution Status Change",
                "source": "aws.states", "account": "000000000000", "time": "2026-11-22T19:42:21Z", "region": "eu-west-1",
                "resources": [], "detail": detail
            });
            Compensation::of_execution(serde_json::from_str(&event.to_string()).unwrap())
        };
        let id = "run_019300000000700080000000000000ff";
        let aborted = compensation(json!({ "name": id, "status": "ABORTED", "input": json!({ "run": run() }).to_string() })).unwrap();
        assert_eq!((aborted.code, aborted.run.is_some()), (FailureCode::Aborted, true));
        let timed_out = compensation(json!({ "name": id, "status": "TIMED_OUT", "input": null })).unwrap();
        assert_eq!((timed_out.code, timed_out.run.is_some()), (FailureCode::TimedOut, false));
        let failed = compensation(json!({ "name": id, "status": "FAILED", "error": "ModelUnavailable",
            "cause": r#"{"errorType":"ModelUnavailable","errorMessage":"AI_FAILED: no model answered"}"# }))
        .unwrap();
        assert_eq!(failed.code, FailureCode::AiFailed);
        assert!(compensation(json!({ "name": "started-by-hand", "status": "FAILED" })).is_none());
    }

    #[test]
    fn the_response_to_the_queue_lists_the_messages_that_stay() {
        let mut response = SqsBatchResponse::default();
        response.add_failure("m1");
        assert_eq!(serde_json::to_value(Response::Batch(response)).unwrap(), json!({ "batchItemFailures": [{ "itemIdentifier": "m1" }] }));
    }
}
