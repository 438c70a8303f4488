//! A request as handlers see it.

use http::{StatusCode, header};
use jiff::Timestamp;
use lambda_http::{Body, RequestExt};
use oslira_db::Claims;
use oslira_domain::{AccountId, UserId};
use serde_json::Value;

use crate::fields::{Fault, Fields, FromFields};
use crate::problem::Problem;

/// The largest body that any endpoint takes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Who asks: a user whose token was verified, and the account it named, which the database has yet to confirm.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The account in `X-Account-Id`.
    pub account_id: Option<AccountId>,
}

impl Caller {
    /// What policies read.
    pub fn claims(&self) -> Claims {
        Claims { user_id: self.user_id }
    }
}

/// A request with its caller.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// Its id, also in the answer and in every log line.
    pub request_id: String,
    /// When it arrived here.
    pub received_at: Timestamp,
    pub(crate) inner: lambda_http::Request,
}

impl Request {
    /// A parameter of the path that parses as `T`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` if it does not.
    pub fn path<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Problem> {
        let parameters = self.inner.path_parameters();
        let value = parameters.first(name).unwrap_or_default();
        value.parse().map_err(|error: T::Err| Problem::validation(&[Fault::invalid(name, error.to_string())]))
    }

    /// The JSON body as `T`.
    ///
    /// # Errors
    /// 413, 415, `INVALID_JSON`, or `VALIDATION_ERROR` with every fault.
    pub fn body<T: FromFields>(&self) -> Result<T, Problem> {
        let bytes: &[u8] = match self.inner.body() {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > MAX_BODY_BYTES {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KB."));
        }
        let content_type = self.inner.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "The body must be application/json."));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Problem::new(StatusCode::BAD_REQUEST, "INVALID_JSON", format!("The body is not valid JSON (line {line}, column {column})."))
        })?;
        Fields::read(value)
    }
}
