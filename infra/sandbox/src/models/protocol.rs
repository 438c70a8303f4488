//! Questions and answers, independent of the wire format, and the trait of the wire formats.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;

use crate::bill::{Model, Tokens};
use crate::calls::Vendor;

/// A question to a model, independent of the wire format.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) model: &'static Model,
    /// The model as the request names it.
    pub(crate) model_name: String,
    /// The schema that the answer must follow. Without one the answer is prose.
    pub(crate) schema: Option<Value>,
    /// The schema's title or name.
    pub(crate) schema_title: Option<String>,
    /// The whole prompt in the order in which the vendor caches it.
    pub(crate) prompt: String,
    pub(crate) caching: Caching,
    /// The limit of output tokens, reasoning included.
    pub(crate) budget: i64,
    /// The reasoning effort, `none` for no reasoning.
    pub(crate) effort: String,
}

/// How the vendor caches a prompt.
#[derive(Debug)]
pub(crate) enum Caching {
    /// Caches the longest common prefix with an earlier prompt of the same key.
    Implicit { key: String },
    /// Caches up to marked ends, in bytes from the start of the prompt.
    Marked { ends: Vec<usize>, one_hour: bool },
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Done,
    Budget,
    Refused,
}

/// A model's answer, independent of the wire format.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) model_name: String,
    /// `None` when reasoning used up the budget or the answer is empty.
    pub(crate) text: Option<String>,
    pub(crate) stop: Stop,
    pub(crate) tokens: Tokens,
    /// Whether cache writes last an hour.
    pub(crate) one_hour: bool,
    /// The id of the response, if not a new one.
    pub(crate) id: Option<String>,
    /// Whether a message of commentary precedes the answer.
    pub(crate) has_commentary: bool,
    /// Why the response failed, if it did.
    pub(crate) failure: Option<String>,
}

/// An error, independent of the wire format.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) kind: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    /// Creates the error of an invalid request.
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&str>, code: Option<&str>) -> Self {
        Self { status: 400, message: message.into(), param: param.map(str::to_owned), code: code.map(str::to_owned), ..Self::default() }
    }
}

/// The wire format of one endpoint.
pub(crate) trait Dialect {
    const VENDOR: Vendor;
    const OP: &'static str;

    /// Reads a request.
    ///
    /// # Errors
    /// The error that the vendor returns for an invalid request.
    fn read_question(headers: &HeaderMap, request: &Value) -> Result<Question, Refusal>;
    /// Writes the answer to that request.
    fn write_answer(request: &Value, answer: &Answer) -> Value;
    /// Writes an error.
    fn write_error(refusal: &Refusal) -> Response;
    /// Adds the headers that every response has.
    fn add_headers(response: &mut Response, took: Duration);
    /// Returns the credential of a request.
    fn credential(headers: &HeaderMap) -> Option<&str>;
}

/// Estimates the tokens of a text at four characters each.
pub(crate) fn tokens_of(text: &str) -> i64 {
    i64::try_from(text.chars().count().div_ceil(4)).unwrap_or(i64::MAX)
}
