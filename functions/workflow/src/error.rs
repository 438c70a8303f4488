//! Errors of tasks, as the state machine and `Compensate` read them.
//!
//! An error's name decides how often the task is retried (`infra/analysis.asl.json`): [`TERMINAL`] never, every other name as often as it
//! helps. Its message, which becomes part of the cause, begins with the [`FailureCode`] that the run gets if the task is not retried any more.

use lambda_runtime::Diagnostic;
use oslira_aws::AwsError;
use oslira_credential::CredentialError;
use oslira_db::DbError;
use oslira_domain::{FailureCode, RunStatus};
use oslira_lambda::{Failure, Panicked, Severity};
use oslira_scraping::ScrapeError;
use oslira_vendors::VendorError;
use serde::Deserialize;

/// The name of every error that a retry cannot change.
const TERMINAL: &str = "Terminal";

/// Why a task did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The run cannot succeed.
    #[error("{}", .0.message())]
    Terminal(FailureCode),
    /// The run has completed or was cancelled meanwhile: nothing is left to do.
    #[error("the run is {0}")]
    Ended(RunStatus),
    /// A defect, in this code or in the deployment.
    #[error("{0}")]
    Defect(String),
    /// The database is unavailable or full, or rolled back a conflicting transaction.
    #[error("{0}")]
    Database(DbError),
    /// An AWS service is unavailable.
    #[error("{0}")]
    Aws(AwsError),
    /// The profile could not be fetched at this attempt.
    #[error("{0}")]
    Scrape(String),
    /// Instagram returned the profile without its posts. It may do better once, and rarely later.
    #[error("Instagram returned the profile without its posts")]
    WithoutPosts,
    /// Apify has no free resources for this account. That takes longer to pass than a failure.
    #[error("{0}")]
    ScrapeBusy(String),
    /// No model answered at this attempt.
    #[error("no model answered")]
    Model,
}

impl TaskError {
    /// Returns the error's name in the state machine.
    const fn name(&self) -> &'static str {
        match self {
            Self::Terminal(_) | Self::Ended(_) | Self::Defect(_) => TERMINAL,
            Self::Database(_) => "DatabaseUnavailable",
            Self::Aws(_) => "ServiceUnavailable",
            Self::Scrape(_) => "ScrapeFailed",
            Self::WithoutPosts => "ProfileWithoutPosts",
            Self::ScrapeBusy(_) => "ScrapeBusy",
            Self::Model => "ModelUnavailable",
        }
    }

    /// Returns the code that the run fails with if the task is not retried.
    const fn fails_with(&self) -> FailureCode {
        match self {
            Self::Terminal(code) => *code,
            Self::Scrape(_) | Self::WithoutPosts | Self::ScrapeBusy(_) => FailureCode::ScrapeFailed,
            Self::Model => FailureCode::AiFailed,
            // The code of a run that has ended is the one that it ended with: this one is never recorded.
            Self::Ended(_) | Self::Defect(_) | Self::Database(_) | Self::Aws(_) => FailureCode::InternalError,
        }
    }

    /// Returns whether a retry cannot change the outcome.
    pub(crate) fn is_terminal(&self) -> bool {
        self.name() == TERMINAL
    }
}

/// Returns why a run failed, from the error that ended its execution.
pub(crate) fn failure_code(name: &str, cause: Option<&str>) -> FailureCode {
    /// What Lambda makes of a [`Diagnostic`].
    #[derive(Deserialize)]
    struct Cause {
        #[serde(rename = "errorMessage")]
        message: String,
    }
    if matches!(name, "States.Timeout" | "Sandbox.Timedout") {
        return FailureCode::TimedOut;
    }
    let cause = cause.and_then(|text| serde_json::from_str::<Cause>(text).ok());
    let code = cause.and_then(|cause| cause.message.split(':').next()?.parse().ok());
    code.unwrap_or(FailureCode::InternalError)
}

impl From<TaskError> for Diagnostic {
    fn from(error: TaskError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: format!("{}: {error}", error.fails_with()) }
    }
}

impl From<DbError> for TaskError {
    fn from(error: DbError) -> Self {
        if error.is_retryable() { Self::Database(error) } else { Self::Defect(error.to_string()) }
    }
}

impl From<AwsError> for TaskError {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl From<CredentialError> for TaskError {
    fn from(error: CredentialError) -> Self {
        Self::Aws(AwsError::new("secretsmanager", error.to_string()))
    }
}

impl From<ScrapeError> for TaskError {
    fn from(error: ScrapeError) -> Self {
        match error {
            ScrapeError::Vendor(error) => error.into(),
            ScrapeError::Database(error) => error.into(),
            ScrapeError::NotNeeded | ScrapeError::Unsuccessful(_) | ScrapeError::Deadline => Self::Scrape(error.to_string()),
        }
    }
}

/// Apify's errors: what waiting does not change fails the run at once.
impl From<VendorError> for TaskError {
    fn from(error: VendorError) -> Self {
        if let VendorError::Credential(error) = error {
            return error.into();
        }
        if matches!(error, VendorError::RateLimited { .. }) {
            return Self::ScrapeBusy(error.to_string());
        }
        if error.is_retryable() {
            return Self::Scrape(error.to_string());
        }
        tracing::error!(%error, "Apify rejects the request");
        Self::Terminal(FailureCode::ScrapeFailed)
    }
}

impl From<Panicked> for TaskError {
    fn from(panicked: Panicked) -> Self {
        Self::Defect(panicked.to_string())
    }
}

impl Failure for TaskError {
    fn severity(&self) -> Severity {
        match self {
            Self::Ended(_) | Self::Terminal(_) => Severity::Expected,
            Self::Defect(_) => Severity::Defect,
            _ => Severity::Retryable,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Defect(_) => "TASK_DEFECT",
            error => error.name(),
        }
    }

    fn cause(&self) -> Option<String> {
        Some(self.to_string())
    }
}

#[cfg(test)]
mod tests;
