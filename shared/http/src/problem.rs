//! What goes wrong, as a client reads it.

use http::StatusCode;
use oslira_aws::AwsError;
use oslira_aws::limits::{Limit, Standing};
use oslira_db::DbError;
use serde_json::{Value, json};

use crate::fields::Fault;

/// An error answer: status, machine code and a text for people. What lies behind a 5xx is logged, never sent.
#[derive(Debug)]
pub struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) cause: Option<String>,
    pub(crate) limit: Option<(Limit, Standing)>,
}

impl Problem {
    /// A problem without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None, retry_after: None, cause: None, limit: None }
    }

    /// Its machine code.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// With machine-readable details.
    #[must_use]
    pub fn with_details(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }

    /// With the seconds after which another try makes sense.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// With what the log, and only the log, should say.
    #[must_use]
    pub fn with_cause(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// 400 with every fault of the input.
    pub fn validation(faults: &[Fault]) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "The request is not valid.").with_details(json!(faults))
    }

    /// 401.
    pub fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// 404: it does not exist, or belongs to somebody else; nobody learns which.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} not found."))
    }

    /// 422: the idempotency key stands for another request.
    pub fn key_reused() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", "This Idempotency-Key was used for another request.")
    }

    /// 409: the request that holds the idempotency key is still at work.
    pub fn key_in_use() -> Self {
        Self::new(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_IN_USE", "The first request with this Idempotency-Key is still at work.")
            .with_retry_after(1)
    }

    /// 429.
    pub fn rate_limited(standing: Standing) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", "Too many requests. Please slow down.")
            .with_retry_after(standing.reset_after)
    }

    /// 500.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Something went wrong on our side.").with_cause(cause)
    }

    /// 503: something we depend on is down.
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service is not available for the moment.")
            .with_retry_after(2)
            .with_cause(cause)
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        match &error {
            // What the API's own limits never let through: bounds for whoever calls the database directly.
            DbError::Rule { code, .. } if code == "OS429" => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", "Too many requests today.").with_retry_after(3600)
            }
            error if error.is_retryable() => Self::unavailable(error),
            error => Self::internal(error),
        }
    }
}

impl From<AwsError> for Problem {
    fn from(error: AwsError) -> Self {
        Self::unavailable(error)
    }
}
