//! A request as handlers receive it.

use http::header;
use jiff::Timestamp;
use lambda_http::{Body, RequestExt};
use oslira_db::Claims;
use oslira_domain::{AccountId, UserId};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::errors;
use crate::fault::Fault;
use crate::fields::{FromFields, RequestFields};
use crate::problem::Problem;

/// The largest body that an endpoint accepts.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The caller of an endpoint: a user whose token is verified, and the account that the request names.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The account in `X-Account-Id`: a claim of the client's. The database decides whether the user is a member.
    pub requested_account: Option<AccountId>,
}

impl Caller {
    /// Returns the claims that row-level security reads.
    pub fn claims(&self) -> Claims {
        Claims { user_id: self.user_id }
    }
}

/// The key by which the repetition of a request that spends is recognized.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// The key that the client chose.
    pub key: String,
    /// SHA-256 of method, path and body, in hexadecimal: another request with the same key is rejected.
    pub hash: String,
}

/// An authenticated request.
#[derive(Debug)]
pub struct Request {
    /// The caller.
    pub caller: Caller,
    /// The request's id, which its response and every log line about it carry.
    pub request_id: String,
    /// When the function received it.
    pub received_at: Timestamp,
    pub(crate) inner: lambda_http::Request,
}

impl Request {
    /// Returns a parameter of the path, parsed.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` if it does not parse.
    pub fn path<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Problem> {
        let parameters = self.inner.path_parameters();
        let value = parameters.first(name).unwrap_or_default();
        value.parse().map_err(|error: T::Err| Fault::invalid(name, error.to_string()).into())
    }

    /// Reads a `T` from the parameters of the query, each given at most once.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every fault.
    pub fn query<T: FromFields>(&self) -> Result<T, Problem> {
        read_query(&self.inner)
    }

    /// Returns the header `Idempotency-Key`, if the request has one.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` if it is empty, longer than 255 characters, or not ASCII.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        let Some(value) = self.inner.headers().get("idempotency-key") else { return Ok(None) };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=255).contains(&key.len()));
        let key = key.ok_or_else(|| Fault::invalid("Idempotency-Key", "expected 1 to 255 ASCII characters"))?;
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

    /// Reads a `T` from the JSON body.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE`, `UNSUPPORTED_MEDIA_TYPE`, `INVALID_JSON`, or `VALIDATION_ERROR` with every fault.
    pub fn body<T: FromFields>(&self) -> Result<T, Problem> {
        let bytes = self.bytes();
        if bytes.len() > MAX_BODY_BYTES {
            return Err(Problem::of(&errors::PAYLOAD_TOO_LARGE));
        }
        let content_type = self.inner.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::of(&errors::UNSUPPORTED_MEDIA_TYPE));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let message = format!("The body is not valid JSON (line {}, column {}).", error.line(), error.column());
            Problem::of(&errors::INVALID_JSON).message(message)
        })?;
        Ok(RequestFields::read(value)?)
    }
}

/// The query of a request without authentication.
#[derive(Debug)]
pub struct Query(pub(crate) lambda_http::Request);

impl Query {
    /// Reads a `T` from the parameters, each given at most once.
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
    if faults.is_empty() { Ok(RequestFields::read_object(values)?) } else { Err(faults.into()) }
}
