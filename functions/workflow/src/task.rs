//! One adapter from Step Functions to a task: logging, and errors with the names that the state machine knows.

use std::future::Future;
use std::pin::Pin;
use std::time::{Instant, SystemTime};

use lambda_runtime::{LambdaEvent, service_fn};
use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{AwsError, MissingVariable, SdkConfig, sdk_config};
use oslira_db::{AdminDb, DbError};
use oslira_domain::{FailureCode, RunId, RunStatus, StepTiming};
use oslira_telemetry::{caught, count_error};
use serde::Serialize;
use serde_json::Value;
use tracing::Instrument;

use crate::error::TaskError;

/// What every task works with, made once an environment.
#[derive(Clone)]
pub struct Deps {
    /// The database as the workflow.
    pub db: AdminDb,
    /// What clients watch.
    pub progress: ProgressTable,
    /// Vendors' credentials.
    pub secrets: Secrets,
    /// For the clients that only some tasks need.
    pub config: SdkConfig,
}

impl Deps {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config();
        let secrets = Secrets::from_env(&config)?;
        Ok(Self {
            db: AdminDb::new(secrets.fetcher("database-admin", DbError::no_credential)),
            progress: ProgressTable::from_env(&config)?,
            secrets,
            config,
        })
    }

    /// Shows how a run ended.
    pub(crate) async fn show_end(&self, run_id: &RunId, status: RunStatus, code: Option<FailureCode>, steps: &[StepTiming]) {
        shown(self.progress.end(run_id, status, code, steps, jiff::Timestamp::now()).await);
    }
}

/// Progress is a courtesy: a run goes on without it, and the database answers in its place.
pub(crate) fn shown(written: Result<(), AwsError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "progress not written");
    }
}

/// `Ok` while the run is processing. Otherwise the error that ends this task: whatever the run has come to is final.
pub(crate) fn still_wanted(state: Option<(RunStatus, Option<FailureCode>)>) -> Result<(), TaskError> {
    match state {
        Some((RunStatus::Processing, _)) => Ok(()),
        Some((RunStatus::Failed, Some(code))) => Err(TaskError::Final(code)),
        Some((status, _)) => Err(TaskError::Ended(status)),
        None => Err(TaskError::Defect("the run was never admitted".to_owned())),
    }
}

/// One invocation of a task.
#[derive(Debug)]
pub struct Invocation {
    /// What the state machine hands over.
    pub payload: Value,
    /// When Lambda ends it, whatever it is doing.
    pub ends: Instant,
}

/// Runs a task until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut, Out>(task: F) -> Result<(), lambda_runtime::Error>
where
    F: Fn(Invocation) -> Fut,
    Fut: Future<Output = Result<Out, TaskError>> + 'static,
    Out: Serialize + 'static,
{
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| once(event, &task))).await
}

/// Runs a task for one invocation.
pub(crate) fn once<F, Fut, Out>(event: LambdaEvent<Value>, task: &F) -> impl Future<Output = Result<Out, TaskError>> + use<F, Fut, Out>
where
    F: Fn(Invocation) -> Fut,
    Fut: Future<Output = Result<Out, TaskError>> + 'static,
    Out: 'static,
{
    let run = &event.payload["run"];
    let span = tracing::info_span!(
        "task",
        requestId = event.context.request_id,
        xray_trace_id = event.context.xray_trace_id,
        run_id = run["run_id"].as_str(),
        account_id = run["account_id"].as_str(),
        call = event.payload["call"].as_str()
    );
    let request_id = event.context.request_id.clone();
    // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
    let outcome: Pin<Box<dyn Future<Output = Result<Out, TaskError>>>> =
        Box::pin(task(Invocation { ends: end(&event.context), payload: event.payload }));
    let work = async move {
        let started = Instant::now();
        let outcome = caught(outcome).await.unwrap_or_else(|panicked| Err(TaskError::Defect(panicked.to_string())));
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(_) => tracing::info!(duration_ms, "done"),
            Err(error @ TaskError::Defect(_)) => {
                tracing::error!(duration_ms, %error, "failed");
                count_error("TASK_DEFECT", &[("requestId", &request_id)]);
            }
            Err(error @ (TaskError::Ended(_) | TaskError::Final(_))) => tracing::info!(duration_ms, %error, "ended"),
            Err(error) => tracing::warn!(duration_ms, %error, "failed, may be tried again"),
        }
        outcome
    };
    async move {
        let outcome = work.instrument(span).await;
        oslira_telemetry::report().await;
        outcome
    }
}

/// When the invocation is over, on this process's own clock.
fn end(context: &lambda_runtime::Context) -> Instant {
    context.deadline().duration_since(SystemTime::now()).map_or_else(|_| Instant::now(), |left| Instant::now() + left)
}

/// A task's input as `T`.
pub(crate) fn input<T: serde::de::DeserializeOwned>(payload: Value) -> Result<T, TaskError> {
    serde_json::from_value(payload).map_err(|error| TaskError::Defect(format!("malformed input: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_a_defect() {
        let event = LambdaEvent::new(json!({}), lambda_runtime::Context::default());
        let task = |_| async {
            let steps: Vec<u8> = Vec::new();
            Ok::<u8, TaskError>(steps[0])
        };
        let outcome = once(event, &task).await;
        assert!(matches!(&outcome, Err(TaskError::Defect(why)) if why == "panicked"), "{outcome:?}");
    }
}
