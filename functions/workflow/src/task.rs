//! What all tasks share: clients, the check that a run is active, and the trigger.

use oslira_aws::AwsError;
use oslira_aws::progress::ProgressTable;
use oslira_db::AdminDb;
use oslira_domain::{FailureCode, RunId, RunStatus, StepTiming};
use oslira_lambda::{Error, Event, Init};
use serde::Serialize;
use serde_json::Value;

use crate::config::TaskConfig;
use crate::error::TaskError;

/// The clients of every task, created once for each environment.
#[derive(Clone)]
pub struct Deps {
    /// The database as the workflow.
    pub db: AdminDb,
    /// The progress items that clients poll.
    pub progress: ProgressTable,
}

impl Deps {
    /// Returns the clients that `config` names.
    pub fn new<C>(config: &TaskConfig, init: &Init<C>) -> Self {
        Self { db: init.admin_db(), progress: ProgressTable::new(&init.aws, &config.progress_table) }
    }

    /// Fetches the database's login and opens the connection to DynamoDB, before the first run needs them.
    pub async fn warm_up(&self) {
        oslira_lambda::warm_up(async {
            tokio::join!(self.db.warm_up(), self.progress.warm_up());
        })
        .await;
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
    oslira_lambda::task::input(payload).map_err(TaskError::Defect)
}
