//! One request to the API: authentication, idempotency, faults, the operation and the response.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::account::Stripe;
use super::form::Params;
use super::idempotency::{Answer, Claim};
use super::ledger::{API_VERSION, Cause, Ledger};
use super::lists::{self, COLLECTIONS, Collection};
use super::problem::Problem;
use super::{catalog, checkout, customers, reversals, subscriptions};
use crate::calls::Vendor;
use crate::faults::Fault;
use crate::shared::Shared;
use crate::wire;

/// The operations that a fault can name.
pub(crate) const OPERATIONS: [&str; 13] = [
    "customers",
    "products",
    "prices",
    "sessions",
    "payment_intents",
    "charges",
    "refunds",
    "disputes",
    "subscriptions",
    "invoices",
    "invoice_payments",
    "events",
    "other",
];

/// A write, with the id in the path.
type Write = fn(&mut Ledger, &str, &Params) -> Result<Value, Problem>;

/// The operation of a method and a path.
enum Operation {
    Write(Write),
    One(&'static Collection),
    All(&'static Collection),
    LineItems,
    InvoiceLines,
    Balance,
    Unknown,
}

/// Returns the operation, its name for faults, and the id in the path.
fn route<'a>(method: &Method, path: &'a str) -> (Operation, &'static str, &'a str) {
    let segments: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    let (collection, rest) = match segments.as_slice() {
        ["checkout", "sessions", rest @ ..] => ("checkout/sessions", rest),
        [collection, rest @ ..] => (*collection, rest),
        [] => ("", &[][..]),
    };
    let Some(collection) = COLLECTIONS.iter().find(|known| known.path == collection) else { return (Operation::Unknown, "other", "") };
    let id = rest.first().copied().unwrap_or_default();
    let operation = match (method.as_str(), collection.kind, rest) {
        ("GET", _, []) => Operation::All(collection),
        ("GET", _, [_]) => Operation::One(collection),
        ("GET", "checkout.session", [_, "line_items"]) => Operation::LineItems,
        ("GET", "invoice", [_, "lines"]) => Operation::InvoiceLines,
        ("GET", "customer", [_, "balance_transactions"]) => Operation::Balance,
        ("POST", "customer", []) => Operation::Write(customers::create),
        ("POST", "customer", [_]) => Operation::Write(customers::update),
        ("POST", "product", []) => Operation::Write(catalog::create_product),
        ("POST", "price", []) => Operation::Write(catalog::create_price),
        ("POST", "checkout.session", []) => Operation::Write(checkout::create),
        ("POST", "checkout.session", [_, "expire"]) => Operation::Write(checkout::expire),
        ("POST", "subscription", []) => Operation::Write(subscriptions::create),
        ("POST", "subscription", [_]) => Operation::Write(subscriptions::update),
        ("DELETE", "subscription", [_]) => Operation::Write(subscriptions::cancel),
        ("POST", "refund", []) => Operation::Write(reversals::create_refund),
        _ => Operation::Unknown,
    };
    let op = if collection.path == "checkout/sessions" { "sessions" } else { collection.path };
    (operation, op, id)
}

/// Returns the API key: a bearer token, or the user of basic authentication.
fn api_key(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = wire::bearer(headers) {
        return Some(token.to_owned());
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let pair = String::from_utf8(decoded).ok()?;
    Some(pair.split(':').next().unwrap_or_default().to_owned()).filter(|key| !key.is_empty())
}

/// Checks the API key and the API version.
fn authenticate(shared: &Shared, headers: &HeaderMap) -> Result<(), Problem> {
    match api_key(headers) {
        None => return Err(Problem::unauthorized("The Authorization header has no API key. It goes there as a bearer token.")),
        Some(key) if !shared.accepts(Vendor::Stripe, &key) => {
            let end = key.get(key.len().saturating_sub(4)..).unwrap_or_default();
            return Err(Problem::unauthorized(format!("Invalid API Key provided: ****{end}")));
        }
        Some(_) => {}
    }
    match headers.get("stripe-version").map(|version| version.to_str().unwrap_or_default()) {
        None | Some(API_VERSION) => Ok(()),
        Some(other) => Err(Problem::invalid(format!("The sandbox has API version {API_VERSION}, not {other}."), None, None)),
    }
}

fn respond(status: u16, body: Vec<u8>, request: &str, key: Option<&str>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    wire::set(&mut response, "content-type", "application/json");
    wire::set(&mut response, "request-id", request);
    wire::set(&mut response, "stripe-version", API_VERSION);
    if let Some(key) = key {
        wire::set(&mut response, "idempotency-key", key);
    }
    response
}

fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// Performs an authenticated operation.
fn perform(stripe: &Stripe, operation: &Operation, id: &str, params: &Params, cause: Cause) -> Result<Value, Problem> {
    stripe.act(cause, |ledger| {
        let mut value = match operation {
            Operation::Write(write) => write(ledger, id, params)?,
            Operation::One(collection) => lists::one(ledger, collection.kind, id, params)?,
            Operation::All(collection) => lists::all(ledger, collection, params)?,
            Operation::LineItems => lists::line_items(ledger, id, params)?,
            Operation::InvoiceLines => lists::invoice_lines(ledger, id, params)?,
            Operation::Balance => lists::balance_transactions(ledger, id, params)?,
            Operation::Unknown => return Err(Problem { status: 404, ..Problem::invalid("Unrecognized request URL.", None, None) }),
        };
        lists::expand(ledger, params, &mut value)?;
        Ok(value)
    })
}

/// Handles every request to the API.
pub(super) async fn handle(State(stripe): State<Arc<Stripe>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = format!("req_{}", wire::id(14));
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let (operation, op, id) = route(&method, path);
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).filter(|_| method == Method::POST);
    let call = stripe.shared.calls.begin(Vendor::Stripe, op, body.clone());
    let line = format!("{method} {path}?{query}");
    let line = line.trim_end_matches('?');
    let described: Vec<String> = std::iter::once(line.to_owned()).chain(key.map(|key| format!("Idempotency-Key: {key}"))).collect();
    let about = [described.join("\n").as_bytes(), b"\n", &body].concat();
    call.note(|call| call.handles = described);

    let authenticated = authenticate(&stripe.shared, &headers);
    let fault = authenticated.is_ok().then(|| stripe.shared.faults.take(Vendor::Stripe, op, &about)).flatten();
    if let Some(Fault::Status { status, retry_after, error_type, code }) = fault {
        call.close(status, &format!("status_{status}"), true);
        let mut response = respond(status, pretty(&Problem::injected(status, error_type, code).json()), &request, None);
        if let Some(seconds) = retry_after {
            wire::set(&mut response, "retry-after", &seconds.to_string());
        }
        return response;
    }
    let claimed = authenticated.and_then(|()| Params::parse(&[query.as_bytes(), &body])).and_then(|params| {
        let claim = key.map(|key| stripe.keys.claim(key, path, &params)).transpose()?;
        Ok((params, claim))
    });
    // The key is in use from here on.
    wire::pause(stripe.shared.faults.call_time(Vendor::Stripe, &about)).await;

    let (status, bytes, first, claim) = match claimed {
        Err(problem) => (problem.status, pretty(&problem.json()), None, None),
        Ok((_, Some(Claim::Replay(answer)))) => (answer.status, answer.body, Some(answer.request), None),
        Ok((params, mut claim)) => {
            let cause = Cause { request: Some(request.clone()), idempotency_key: key.map(str::to_owned) };
            match perform(&stripe, &operation, id, &params, cause) {
                Ok(value) => {
                    let bytes = pretty(&value);
                    if let Some(Claim::New(claimed)) = &mut claim {
                        claimed.keep(Answer { status: 200, body: bytes.clone(), request: request.clone() });
                    }
                    (200, bytes, None, claim)
                }
                // A rejected request leaves its key unused.
                Err(problem) => (problem.status, pretty(&problem.json()), None, claim),
            }
        }
    };
    if let Some(Fault::Hang { seconds }) = fault {
        wire::pause(Duration::from_secs_f64(seconds)).await;
    }
    drop(claim);
    if fault == Some(Fault::Disconnect) {
        call.disconnect();
        return wire::disconnect();
    }
    let whole = bytes.len();
    let bytes = if fault == Some(Fault::TruncatedJson) { bytes.into_iter().take(whole / 2).collect() } else { bytes };
    let outcome = match status {
        _ if fault == Some(Fault::TruncatedJson) => "truncated_json",
        401 => "unauthorized",
        400.. => "rejected",
        _ if first.is_some() => "replayed",
        _ => "ok",
    };
    call.close(status, outcome, outcome != "truncated_json");
    let mut response = respond(status, bytes, &request, key);
    if let Some(first) = first {
        wire::set(&mut response, "idempotent-replayed", "true");
        wire::set(&mut response, "original-request", &first);
    }
    if status == 409 {
        wire::set(&mut response, "stripe-should-retry", "true");
    }
    response
}
