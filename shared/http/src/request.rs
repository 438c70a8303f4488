//! A request as handlers see it.

use http::{StatusCode, header};
use jiff::Timestamp;
use lambda_http::{Body, RequestExt};
use oslira_db::Claims;
use oslira_domain::{AccountId, UserId};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::fields::{Fault, FromFields, Given};
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

/// The key under which a request that spends is recognised when it is sent again.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// As the client chose it.
    pub key: String,
    /// SHA-256 of method, path and body, in hex: another request may not use the same key.
    pub hash: String,
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

    /// The parameters of the query string as `T`, each given once.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn query<T: FromFields>(&self) -> Result<T, Problem> {
        read_query(&self.inner)
    }

    /// The header `Idempotency-Key`, if there is one.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` if it is empty, longer than 255 characters, or not plain ASCII.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        let Some(value) = self.inner.headers().get("idempotency-key") else { return Ok(None) };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=255).contains(&key.len()));
        let key = key.ok_or_else(|| Problem::validation(&[Fault::invalid("Idempotency-Key", "expected 1 to 255 ASCII characters")]))?;
        let mut hash = Sha256::new();
        hash.update(format!("{} {}\n", self.inner.method(), self.inner.uri().path()));
        hash.update(self.bytes());
        Ok(Some(IdempotencyKey { key: key.to_owned(), hash: hex::encode(hash.finalize()) }))
    }

    fn bytes(&self) -> &[u8] {
        match self.inner.body() {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        }
    }

    /// The JSON body as `T`.
    ///
    /// # Errors
    /// 413, 415, `INVALID_JSON`, or `VALIDATION_ERROR` with every fault.
    pub fn body<T: FromFields>(&self) -> Result<T, Problem> {
        let bytes = self.bytes();
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
        Given::read(value)
    }
}

/// The query of a request that nobody signed.
#[derive(Debug)]
pub struct Query(pub(crate) lambda_http::Request);

impl Query {
    /// Its parameters as `T`, each given once.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn read<T: FromFields>(&self) -> Result<T, Problem> {
        read_query(&self.0)
    }
}

fn read_query<T: FromFields>(request: &lambda_http::Request) -> Result<T, Problem> {
    let parameters = request.query_string_parameters();
    let mut values = Map::new();
    let mut faults = Vec::new();
    for (name, value) in parameters.iter() {
        if values.insert(name.to_owned(), Value::from(value)).is_some() {
            faults.push(Fault::invalid(name, "expected once"));
        }
    }
    if faults.is_empty() { Given::read_object(values) } else { Err(Problem::validation(&faults)) }
}
