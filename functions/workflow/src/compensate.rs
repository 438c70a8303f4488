//! `Compensate`: ends a run without a result and gives its credits back.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{LambdaEvent, service_fn};
use oslira_domain::{FailureCode, Run, RunId, RunStatus, StepTiming};
use oslira_lambda::queue::{self, Message, MessageError};
use oslira_lambda::{Event, task};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{TaskError, failure_code};
use crate::state::{Admitted, ProfileState};
use crate::task::{Deps, input};

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
#[derive(Debug, Serialize, Deserialize)]
struct EndedExecution {
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
struct Compensated {
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

/// What the caller is told: the state machine how the run ended, the queue which messages to keep.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reply {
    /// To the state machine.
    Run(Compensated),
    /// To the queue.
    Batch(SqsBatchResponse),
}

/// Runs `Compensate` until the environment ends: for the state machine, and, for executions that could not call it themselves, for the
/// queue that EventBridge fills. What cannot be booked now stays there and comes again.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn serve_compensate(deps: Deps) -> Result<(), lambda_runtime::Error> {
    let deps = &deps;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        if event.payload.get("Records").is_none() {
            let by_state = async |event: Event<Value>, deps: &Deps| compensate(event.payload, deps.clone()).await;
            return task::invoke(event, deps, &by_state).await.map(Reply::Run);
        }
        let messages: SqsEvent = input(event.payload)?;
        let by_queue = async |message: Message, deps: &Deps| ended_execution(message, deps.clone()).await;
        Ok(Reply::Batch(queue::invoke(&messages, &event.context, None, deps, &by_queue).await))
    }))
    .await
}

/// Fails the run and refunds its charge, once, in one transaction; a run that has ended already stays as it is.
///
/// # Errors
/// Retryable ones, and a defect for a payload that is no failed state.
async fn compensate(payload: Value, deps: Deps) -> Result<Compensated, TaskError> {
    book(Loss::of_state(input(payload)?), &deps).await
}

/// The same for an execution that ended by itself.
async fn ended_execution(message: Message, deps: Deps) -> Result<(), MessageError> {
    let event = serde_json::from_str(&message.body).map_err(|error| MessageError::Poison(format!("not an ended execution: {error}")))?;
    let Some(loss) = Loss::of_execution(event) else {
        tracing::warn!("an execution that is no analysis"); // somebody tried the state machine by hand
        return Ok(());
    };
    let span = tracing::Span::current();
    span.record("run_id", loss.run_id.as_str());
    if let Some(run) = &loss.run {
        span.record("account_id", run.account_id.to_string());
    }
    Ok(book(loss, &deps).await.map(drop)?)
}

/// Whatever cannot be booked stays in the queue; what waiting does not mend is for people.
impl From<TaskError> for MessageError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Database(error) => error.into(),
            TaskError::Aws(error) => error.into(),
            error => Self::Poison(error.to_string()),
        }
    }
}

async fn book(loss: Loss, deps: &Deps) -> Result<Compensated, TaskError> {
    let booked = deps.db.fail(&loss.run_id, loss.run.as_ref(), loss.code, &loss.steps).await?;
    if let Some(status) = booked.status {
        deps.show_end(&loss.run_id, status, booked.error_code, &loss.steps).await;
    }
    tracing::info!(code = %loss.code, status = booked.status.map(RunStatus::as_str), credits_refunded = booked.credits_refunded, "compensated");
    Ok(Compensated { status: booked.status, error_code: booked.error_code, credits_refunded: booked.credits_refunded })
}

impl Loss {
    fn of_state(state: FailedState) -> Self {
        let steps = state.admission.map(|added| added.steps).into_iter().chain(state.profile.map(|added| added.steps)).flatten().collect();
        Self { run_id: state.run.run_id.clone(), run: Some(state.run), code: failure_code(&state.error.name), steps }
    }

    /// `None` for an execution that is not named after a run.
    fn of_execution(event: EventBridgeEvent<EndedExecution>) -> Option<Self> {
        let execution = event.detail;
        let code = match execution.status.as_str() {
            "ABORTED" => FailureCode::Aborted,
            "TIMED_OUT" => FailureCode::TimedOut,
            _ => failure_code(execution.error.as_deref().unwrap_or_default()),
        };
        let run = execution.input.and_then(|input| serde_json::from_str::<ExecutionInput>(&input).ok()).map(|input| input.run);
        Some(Self { run_id: execution.name.parse().ok()?, run, code, steps: Vec::new() })
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
    fn a_failed_state_says_which_run_and_why() {
        let state = json!({ "run": run(), "error": { "Error": "ProfilePrivate", "Cause": "{}" } });
        let loss = Loss::of_state(serde_json::from_value(state).unwrap());
        assert_eq!((loss.run_id.as_str(), loss.code), ("run_019300000000700080000000000000ff", FailureCode::ProfilePrivate));
        assert!(loss.run.is_some());
    }

    #[test]
    fn an_ended_execution_says_which_run_even_without_its_input() {
        let loss = |detail: Value| {
            let event = json!({
                "version": "0", "id": "315c1398-40ff-a850-213b-158f73e60175", "detail-type": "Step Functions Execution Status Change",
                "source": "aws.states", "account": "000000000000", "time": "2026-11-22T19:42:21Z", "region": "eu-west-1",
                "resources": [], "detail": detail
            });
            Loss::of_execution(serde_json::from_str(&event.to_string()).unwrap())
        };
        let id = "run_019300000000700080000000000000ff";
        let aborted = loss(json!({ "name": id, "status": "ABORTED", "input": json!({ "run": run() }).to_string() })).unwrap();
        assert_eq!((aborted.code, aborted.run.is_some()), (FailureCode::Aborted, true));
        let timed_out = loss(json!({ "name": id, "status": "TIMED_OUT", "input": null })).unwrap();
        assert_eq!((timed_out.code, timed_out.run.is_some()), (FailureCode::TimedOut, false));
        let failed = loss(json!({ "name": id, "status": "FAILED", "error": "RetryableModel" })).unwrap();
        assert_eq!(failed.code, FailureCode::AiFailed);
        assert!(loss(json!({ "name": "somebody-elses", "status": "FAILED" })).is_none());
    }

    #[test]
    fn a_queue_is_told_which_messages_to_keep() {
        let mut response = SqsBatchResponse::default();
        response.add_failure("m1");
        assert_eq!(serde_json::to_value(Reply::Batch(response)).unwrap(), json!({ "batchItemFailures": [{ "itemIdentifier": "m1" }] }));
    }
}
