//! One call to Apify: authentication, faults and errors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::runs::Runs;
use crate::calls::{OpenCall, Vendor};
use crate::faults::{Fault, INJECTED};
use crate::shared::Shared;
use crate::wire;

pub(super) type Parameters = Query<HashMap<String, String>>;

/// The operations that a fault can name.
pub(crate) const OPERATIONS: &[&str] = &["start", "poll", "items", "abort"];

/// The state of Apify: the Actor runs.
#[derive(Debug)]
pub(crate) struct Apify {
    pub(super) shared: Arc<Shared>,
    /// The address of the API, without a slash at the end.
    pub(super) address: String,
    pub(super) runs: Runs,
}

impl Apify {
    pub(crate) fn new(shared: Arc<Shared>, address: String) -> Self {
        Self { shared, address, runs: Runs::default() }
    }
}

/// Creates an error response.
pub(super) fn error(status: u16, kind: &str, message: &str) -> Response {
    wire::json(status, &json!({"error": {"type": kind, "message": message}}))
}

/// Returns the default error type of a status.
pub(super) fn error_type(status: u16) -> &'static str {
    match status {
        400 => "invalid-input",
        401 => "invalid-token",
        402 => "not-enough-usage-to-run-paid-actor",
        403 => "insufficient-permissions",
        404 => "record-not-found",
        408 => "run-timeout-exceeded",
        413 => "request-too-large",
        415 => "unsupported-content-encoding",
        429 => "rate-limit-exceeded",
        _ => "internal-server-error",
    }
}

/// An authenticated call, with the fault that its handler applies.
pub(super) struct Admitted {
    pub(super) call: OpenCall,
    pub(super) fault: Option<Fault>,
}

impl Admitted {
    /// Responds with the whole value, or with half of it if that is the fault.
    pub(super) fn respond(self, status: u16, value: &Value) -> Response {
        let outcome = if status < 400 { "ok" } else { "rejected" };
        if self.fault == Some(Fault::TruncatedJson) {
            self.call.close(status, "truncated_json", false);
            return wire::half_json(status, value);
        }
        self.call.close(status, outcome, true);
        wire::json(status, value)
    }

    /// Responds with an error.
    pub(super) fn reject(self, status: u16, kind: &str, message: &str) -> Response {
        self.respond(status, &json!({"error": {"type": kind, "message": message}}))
    }
}

/// Logs a call, checks its token, and applies the faults that every operation can have.
///
/// # Errors
/// The response, when the call ends here.
pub(super) async fn admit(
    apify: &Apify,
    op: &'static str,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    about: (&Bytes, &[String]),
) -> Result<Admitted, Response> {
    let (input, handles) = about;
    let call = apify.shared.calls.begin(Vendor::Apify, op, input.clone());
    call.note(|call| call.handles = handles.to_vec());
    match wire::bearer(headers).or(query.get("token").map(String::as_str)) {
        None => {
            call.close(401, "unauthorized", true);
            return Err(error(401, "token-not-provided", "Authentication token was not provided"));
        }
        Some(token) if !apify.shared.accepts(Vendor::Apify, token) => {
            call.close(401, "unauthorized", true);
            return Err(error(401, "user-or-token-not-found", "User was not found or authentication token is not valid"));
        }
        Some(_) => {}
    }
    match apify.shared.faults.take(Vendor::Apify, op, input) {
        Some(Fault::Status { status, retry_after, error_type: kind, code }) => {
            call.close(status, &format!("status_{status}"), true);
            let kind = kind.or(code).unwrap_or_else(|| error_type(status).to_owned());
            let mut response = error(status, &kind, INJECTED);
            if let Some(seconds) = retry_after {
                wire::set(&mut response, "retry-after", &seconds.to_string());
            }
            Err(response)
        }
        Some(Fault::Disconnect) => {
            call.disconnect();
            Err(wire::disconnect())
        }
        Some(Fault::Hang { seconds }) => {
            wire::pause(Duration::from_secs_f64(seconds)).await;
            Ok(Admitted { call, fault: None })
        }
        fault => Ok(Admitted { call, fault }),
    }
}
