//! What tasks have in common.

use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{AwsError, SdkConfig};
use oslira_db::AdminDb;
use oslira_domain::{FailureCode, RunId, RunStatus, StepTiming};
use oslira_lambda::{Error, Event};
use serde::Serialize;
use serde_json::Value;

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
    pub fn from_env() -> Result<Self, Error> {
        let init = oslira_lambda::init::<()>()?;
        let db = init.admin_db();
        let oslira_lambda::Init { aws: config, secrets, .. } = init;
        Ok(Self { db, progress: ProgressTable::from_env(&config)?, secrets, config })
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

/// Runs a task until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut, Out>(task: F) -> Result<(), Error>
where
    F: Fn(Event<Value>) -> Fut,
    Fut: Future<Output = Result<Out, TaskError>>,
    Out: Serialize,
{
    oslira_lambda::task::run((), async |event, &()| task(event).await).await
}

/// A task's input as `T`.
pub(crate) fn input<T: serde::de::DeserializeOwned>(payload: Value) -> Result<T, TaskError> {
    serde_json::from_value(payload).map_err(|error| TaskError::Defect(format!("malformed input: {error}")))
}
