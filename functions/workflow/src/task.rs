//! What all tasks share: clients, the check that a run is active, and the trigger.

use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{AwsError, SdkConfig};
use oslira_db::AdminDb;
use oslira_domain::{FailureCode, RunId, RunStatus, StepTiming};
use oslira_lambda::{Error, Event};
use serde::Serialize;
use serde_json::Value;

use crate::error::TaskError;

/// The clients of every task, created once for each environment.
#[derive(Clone)]
pub struct Deps {
    /// The database as the workflow.
    pub db: AdminDb,
    /// The progress items that clients poll.
    pub progress: ProgressTable,
    /// Vendors' credentials.
    pub secrets: Secrets,
    /// The configuration for the clients that only some tasks need.
    pub config: SdkConfig,
}

impl Deps {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, Error> {
        let init = oslira_lambda::init::<()>()?;
        let db = init.admin_db();
        let oslira_lambda::Init { aws: config, secrets, .. } = init;
        Ok(Self { db, progress: ProgressTable::from_env(&config)?, secrets, config })
    }

    /// Writes the end of a run to its progress item.
    pub(crate) async fn write_end(&self, run_id: &RunId, status: RunStatus, code: Option<FailureCode>, steps: &[StepTiming]) {
        log_progress_error(self.progress.end(run_id, status, code, steps, jiff::Timestamp::now()).await);
    }
}

/// Logs an error of a progress write. A run does not depend on its progress item: without one, clients are served from the database.
pub(crate) fn log_progress_error(written: Result<(), AwsError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "progress not written");
    }
}

/// Fails with the error that ends this task unless the run is processing.
pub(crate) fn ensure_active(state: Option<(RunStatus, Option<FailureCode>)>) -> Result<(), TaskError> {
    match state {
        Some((RunStatus::Processing, _)) => Ok(()),
        Some((RunStatus::Failed, Some(code))) => Err(TaskError::Terminal(code)),
        Some((status, _)) => Err(TaskError::Ended(status)),
        None => Err(TaskError::Defect("the run was never admitted".to_owned())),
    }
}

/// Runs a task until the environment ends.
///
/// # Errors
/// Fails when the runtime cannot be reached.
pub async fn run<F, Fut, Out>(task: F) -> Result<(), Error>
where
    F: Fn(Event<Value>) -> Fut,
    Fut: Future<Output = Result<Out, TaskError>>,
    Out: Serialize,
{
    oslira_lambda::task::run((), async |event, &()| task(event).await).await
}

/// Returns a task's input as `T`.
pub(crate) fn input<T: serde::de::DeserializeOwned>(payload: Value) -> Result<T, TaskError> {
    serde_json::from_value(payload).map_err(|error| TaskError::Defect(format!("malformed input: {error}")))
}
