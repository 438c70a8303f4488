//! An error response on its way to the client.

use std::panic::Location;

use http::StatusCode;
use oslira_aws::AwsError;
use oslira_aws::limits::{Limit, LimitStatus};
use oslira_db::DbError;
use oslira_domain::AccountId;
use serde::Serialize;
use serde_json::Value;

use crate::api_error::ApiError;
use crate::errors;
use crate::fault::Fault;

/// An error response: an entry of the [catalog](errors) and what this occurrence adds to it. The cause of a 5xx is logged and never sent.
#[derive(Debug)]
pub struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) cause: Option<String>,
    pub(crate) limit: Option<(Limit, LimitStatus)>,
    /// Where a 5xx was made. Logged, and never sent.
    pub(crate) place: Option<&'static Location<'static>>,
}

impl Problem {
    /// Creates the response of an error without details.
    pub fn of(error: &ApiError) -> Self {
        Self::new(error, None)
    }

    /// Creates the response of an error with its details.
    pub fn with_details<D: Serialize>(error: &ApiError<D>, details: &D) -> Self {
        match serde_json::to_value(details) {
            Ok(details) => Self::new(error, Some(details)),
            Err(error) => Self::internal(error),
        }
    }

    fn new<D>(error: &ApiError<D>, details: Option<Value>) -> Self {
        let &ApiError { status, code, message, retry_after, .. } = error;
        Self { status, code, message: message.to_owned(), details, retry_after, cause: None, limit: None, place: None }
    }

    /// Replaces the entry's text for people.
    #[must_use]
    pub fn message(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Sets the seconds after which a retry makes sense.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Sets the cause, which is logged and never sent.
    #[must_use]
    pub fn cause(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// Adds the `RateLimit` headers of the limit that counted the request.
    pub(crate) fn with_limit(self, limit: (Limit, LimitStatus)) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Returns the machine-readable code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Creates a 403 for a caller who has no account, or not the `requested` one.
    pub fn no_account(requested: Option<AccountId>) -> Self {
        Self::of(if requested.is_some() { &errors::NOT_A_MEMBER } else { &errors::NO_ACCOUNTS })
    }

    /// Creates a 429 for a caller above a limit.
    pub fn rate_limited(status: LimitStatus) -> Self {
        Self::of(&errors::RATE_LIMIT_EXCEEDED).retry_after(status.reset_after)
    }

    /// Creates a 500.
    #[track_caller]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self { place: Some(Location::caller()), ..Self::of(&errors::INTERNAL_ERROR).cause(cause) }
    }

    /// Creates a 503: a dependency is unavailable.
    #[track_caller]
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self { place: Some(Location::caller()), ..Self::of(&errors::SERVICE_UNAVAILABLE).cause(cause) }
    }
}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        Self::of(error)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::from(vec![fault])
    }
}

impl From<Vec<Fault>> for Problem {
    fn from(faults: Vec<Fault>) -> Self {
        Self::with_details(&errors::VALIDATION_ERROR, &faults)
    }
}

impl From<DbError> for Problem {
    #[track_caller]
    fn from(error: DbError) -> Self {
        match &error {
            // The API's own limits are lower. The database's bound concerns clients that call its functions directly.
            DbError::Rule { code, .. } if code == "OS429" => {
                Self::of(&errors::RATE_LIMIT_EXCEEDED).message("Too many requests today.").retry_after(3600)
            }
            error if error.is_retryable() => Self::unavailable(error),
            error => Self::internal(error),
        }
    }
}

impl From<AwsError> for Problem {
    #[track_caller]
    fn from(error: AwsError) -> Self {
        Self::unavailable(error)
    }
}
