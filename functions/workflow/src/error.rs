//! Errors as the state machine tells them apart, by name. `infra/analysis.asl.json` retries by these names, and `compensate`
//! reads from them why a run failed.

use lambda_runtime::Diagnostic;
use oslira_aws::AwsError;
use oslira_credential::CredentialError;
use oslira_db::DbError;
use oslira_domain::{FailureCode, RunStatus};
use oslira_lambda::{Failure, Panicked, Severity};
use oslira_scraping::ScrapeError;
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
    /// Apify has no free resources for us: worth waiting longer for than for a failure.
    #[error("{0}")]
    ScrapeBusy(String),
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
            Self::ScrapeBusy(_) => "ScrapeBusy",
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
        "RetryableScrape" | "ScrapeBusy" => FailureCode::ScrapeFailed,
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

/// Apify's errors: what waiting does not mend fails the run at once.
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
        tracing::error!(%error, "scraping is not possible");
        Self::Final(FailureCode::ScrapeFailed)
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
            Self::Ended(_) | Self::Final(_) => Severity::Expected,
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

impl From<TaskError> for Diagnostic {
    fn from(error: TaskError) -> Self {
        Self { error_type: error.name().to_owned(), error_message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    /// Every name that a task can end with.
    fn names() -> BTreeSet<&'static str> {
        let others = [
            TaskError::Ended(RunStatus::Cancelled),
            TaskError::Ended(RunStatus::Completed),
            TaskError::Database(DbError::Unauthorized),
            TaskError::Aws(AwsError::new("s3", "")),
            TaskError::Scrape(String::new()),
            TaskError::ScrapeBusy(String::new()),
            TaskError::Model,
            TaskError::Defect(String::new()),
        ];
        others.iter().map(TaskError::name).chain(FailureCode::ALL.into_iter().map(final_name)).collect()
    }

    #[test]
    fn the_state_machine_retries_every_error_on_purpose() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/analysis.asl.json");
        let definition: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let states = &definition["States"];
        let tasks = [
            &states["Admit"],
            &states["CheckCache"],
            &states["Scrape"],
            &states["Analyze"]["ItemProcessor"]["States"]["Ask"],
            &states["Save"],
        ];
        let mut known = names();
        // What waiting mends is retried by the last rule, for everything that nobody named.
        for mended in ["RetryableDatabase", "RetryableAws"] {
            assert!(known.remove(mended));
        }
        let mut named = BTreeSet::new();
        for task in tasks {
            let rules = task["Retry"].as_array().unwrap();
            let words = |rule: &Value| {
                rule["ErrorEquals"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
            };
            // What nothing mends is never tried again, in any state.
            let hopeless: BTreeSet<String> = known
                .iter()
                .filter(|name| !["RetryableScrape", "ScrapeBusy", "RetryableModel"].contains(name))
                .map(ToString::to_string)
                .collect();
            assert_eq!((words(&rules[0]), &rules[0]["MaxAttempts"]), (hopeless, &json!(0)), "{}", task["Comment"]);
            assert_eq!(words(&rules[rules.len() - 1]), BTreeSet::from(["States.ALL".to_owned()]));
            named.extend(rules.iter().flat_map(words));
        }
        for service in ["States.ALL", "States.Timeout", "Sandbox.Timedout"] {
            assert!(named.remove(service), "{service}");
        }
        assert_eq!(named, known.iter().map(ToString::to_string).collect());
        // Free resources are waited for longer than a mended failure.
        let busy = states["Scrape"]["Retry"].as_array().unwrap().iter().find(|rule| rule["ErrorEquals"] == json!(["ScrapeBusy"])).unwrap();
        assert_eq!((&busy["MaxAttempts"], &busy["MaxDelaySeconds"], &busy["JitterStrategy"]), (&json!(15), &json!(30), &json!("FULL")));
    }

    #[test]
    fn apify_without_free_resources_is_busy_and_without_money_it_is_over() {
        let name = |error: VendorError| TaskError::from(error).name();
        assert_eq!(name(VendorError::RateLimited { retry_after: None }), "ScrapeBusy");
        assert_eq!(name(VendorError::Overloaded(500)), "RetryableScrape");
        assert_eq!(name(VendorError::QuotaExhausted(String::new())), "ScrapeRejected");
        assert_eq!(failure_code("ScrapeBusy"), FailureCode::ScrapeFailed);
    }

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
