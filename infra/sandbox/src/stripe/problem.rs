//! Errors in Stripe's format.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::faults::INJECTED;

/// An error of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

impl Problem {
    /// Creates the error of an invalid request: 400.
    pub(crate) fn invalid(message: impl Into<String>, code: Option<&str>, param: Option<&str>) -> Self {
        Self {
            status: 400,
            kind: Cow::Borrowed("invalid_request_error"),
            code: code.map(str::to_owned),
            message: message.into(),
            param: param.map(str::to_owned),
        }
    }

    /// Creates the error of a missing parameter.
    pub(crate) fn missing(param: &str) -> Self {
        Self::invalid(format!("Missing required param: {param}."), Some("parameter_missing"), Some(param))
    }

    /// Creates the error of a path that names a missing object: 404.
    pub(crate) fn not_found(kind: &str, id: &str) -> Self {
        Self { status: 404, ..Self::unknown_reference(kind, id, "id") }
    }

    /// Creates the error of a parameter that names a missing object: 400, with the same code.
    pub(crate) fn unknown_reference(kind: &str, id: &str, param: &str) -> Self {
        Self::invalid(format!("No such {kind}: '{id}'"), Some("resource_missing"), Some(param))
    }

    /// Creates the error of an absent or invalid API key.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self { status: 401, ..Self::invalid(message, None, None) }
    }

    /// Creates the error of an `Idempotency-Key` that belongs to another request.
    pub(crate) fn idempotency(message: impl Into<String>) -> Self {
        Self { kind: Cow::Borrowed("idempotency_error"), ..Self::invalid(message, None, None) }
    }

    /// Creates the error of an `Idempotency-Key` whose first request is still processed.
    pub(crate) fn key_in_use(key: &str) -> Self {
        let message = format!("There is currently another in-progress request using this idempotency key ({key}).");
        Self { status: 409, ..Self::invalid(message, Some("idempotency_key_in_use"), None) }
    }

    /// Creates the error of an injected fault. Without a type or code it has those that Stripe uses for this status.
    pub(crate) fn injected(status: u16, kind: Option<String>, code: Option<String>) -> Self {
        let (default_kind, default) = match status {
            402 => ("card_error", Some("card_declined")),
            409 => ("invalid_request_error", Some("lock_timeout")),
            429 => ("invalid_request_error", Some("rate_limit")),
            404 => ("invalid_request_error", Some("resource_missing")),
            400..500 => ("invalid_request_error", None),
            _ => ("api_error", None),
        };
        let code = code.or_else(|| default.map(str::to_owned));
        let kind = kind.map_or(Cow::Borrowed(default_kind), Cow::Owned);
        Self { status, kind, code, message: INJECTED.to_owned(), param: None }
    }

    /// Returns the response body.
    pub(crate) fn json(&self) -> Value {
        let mut error = Map::new();
        if let Some(code) = &self.code {
            error.insert("code".to_owned(), json!(code));
            error.insert("doc_url".to_owned(), json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"))));
        }
        error.insert("message".to_owned(), json!(self.message));
        if let Some(param) = &self.param {
            error.insert("param".to_owned(), json!(param));
        }
        error.insert("type".to_owned(), json!(self.kind));
        json!({ "error": error })
    }
}
