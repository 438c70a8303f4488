//! Errors as the state machine tells them apart, by name. `infra/analysis.asl.json` retries by these names, and `compensate`
//! reads from them why a run failed.

use lambda_runtime::Diagnostic;
use oslira_aws::AwsError;
use oslira_db::DbError;
use oslira_domain::{FailureCode, RunStatus};
use oslira_vendors::VendorError;

/// Why a task did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The run has ended meanwhile, as cancelled or completed: there is nothing left to do.
    #[error("the run is {0}")]
    Ended(RunStatus),
    /// The run cannot succeed, for a reason that trying again does not change.
    #[error("{0}")]
    Final(FailureCode),
    /// The database did not answer, or gave in to another transaction.
    #[error("{0}")]
    Database(DbError),
    /// An AWS service did not answer.
    #[error("{0}")]
    Aws(AwsError),
    /// The profile could not be fetched this time.
    #[error("{0}")]
    Scrape(String),
    /// No model answered this time.
    #[error("no model answered")]
    Model,
    /// A defect, here or in the deployment.
    #[error("{0}")]
    Defect(String),
}

impl TaskError {
    /// The name in the state machine.
    fn name(&self) -> &'static str {
        match self {
            Self::Ended(RunStatus::Cancelled) => "Cancelled",
            Self::Ended(_) => "RunEnded",
            Self::Final(code) => final_name(*code),
            Self::Database(_) => "RetryableDatabase",
            Self::Aws(_) => "RetryableAws",
            Self::Scrape(_) => "RetryableScrape",
            Self::Model => "RetryableModel",
            Self::Defect(_) => "Defect",
        }
    }
}

const fn final_name(code: FailureCode) -> &'static str {
    match code {
        FailureCode::DuplicateAnalysis => "DuplicateAnalysis",
        FailureCode::InsufficientCredits => "InsufficientCredits",
        FailureCode::BusinessProfileNotFound => "BusinessProfileNotFound",
        FailureCode::ProfileNotFound => "ProfileNotFound",
        FailureCode::ProfilePrivate => "ProfilePrivate",
        FailureCode::ScrapeFailed => "ScrapeRejected",
        FailureCode::AiFailed => "ModelRejected",
        FailureCode::AiRefused => "ModelRefused",
        FailureCode::AiInvalidOutput => "InvalidModelOutput",
        FailureCode::TimedOut | FailureCode::Aborted | FailureCode::InternalError => "RunEnded",
    }
}

/// Why a run failed, from the name of the error that ended its execution.
pub fn failure_code(name: &str) -> FailureCode {
    match name {
        "RetryableScrape" => FailureCode::ScrapeFailed,
        "RetryableModel" => FailureCode::AiFailed,
        "States.Timeout" | "Sandbox.Timedout" => FailureCode::TimedOut,
        "RunEnded" => FailureCode::InternalError,
        name => FailureCode::ALL.into_iter().find(|code| final_name(*code) == name).unwrap_or(FailureCode::InternalError),
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

/// Apify's errors: what waiting does not mend fails the run at once.
impl From<VendorError> for TaskError {
    fn from(error: VendorError) -> Self {
        if error.is_retryable() {
            return Self::Scrape(error.to_string());
        }
        tracing::error!(%error, "scraping is not possible");
        Self::Final(FailureCode::ScrapeFailed)
    }
}

impl From<TaskError> for Diagnostic {
    fn from(error: TaskError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_error_comes_back_as_the_code_it_was() {
        for code in FailureCode::ALL {
            let Diagnostic { error_type, .. } = TaskError::Final(code).into();
            let expected = if error_type == "RunEnded" { FailureCode::InternalError } else { code };
            assert_eq!(failure_code(&error_type), expected);
        }
        assert_eq!(failure_code("RetryableScrape"), FailureCode::ScrapeFailed);
        assert_eq!(failure_code("RetryableModel"), FailureCode::AiFailed);
        assert_eq!(failure_code("States.Timeout"), FailureCode::TimedOut);
        assert_eq!(failure_code("Runtime.ExitError"), FailureCode::InternalError);
    }
}
