//! The control API, `/_control`, by which tests and the local stack configure and inspect the sandbox.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::calls::{Selection, Vendor};
use crate::faults::{Latency, Rule};
use crate::shared::NewCredentials;
use crate::tokens::{Forgery, TokenRequest};
use crate::{apify, stripe, wire};

/// Returns the routes below `/_control`.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/token", post(token))
        .route("/attack_token", post(attack_token))
        .route("/keys/rotate", post(rotate_keys))
        .route("/credentials", post(credentials))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/faults/{id}", delete(remove_fault))
        .route("/latency", post(add_latency).delete(clear_latency))
        .route("/calls", get(calls))
        .route("/calls/{id}/body", get(body))
        .route("/bill", get(bill))
        .route("/reset", post(reset))
        .fallback(async || wire::json(404, &json!({"error": "no such control"})))
        .with_state(app)
}

/// The status and message of a rejected request.
struct Rejected(u16, String);

impl From<anyhow::Error> for Rejected {
    fn from(error: anyhow::Error) -> Self {
        Self(500, error.to_string())
    }
}

/// Reads a JSON body, whatever its content type.
fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Rejected> {
    serde_json::from_slice(body).map_err(|error| Rejected(400, error.to_string()))
}

fn respond(result: Result<Value, Rejected>) -> Response {
    match result {
        Ok(value) => wire::json(200, &value),
        Err(Rejected(status, why)) => wire::json(status, &json!({"error": why})),
    }
}

fn respond_with(value: &impl Serialize) -> Response {
    respond(serde_json::to_value(value).map_err(|error| Rejected(500, error.to_string())))
}

fn signed(token: anyhow::Result<String>) -> Result<Value, Rejected> {
    Ok(json!({"access_token": token?}))
}

async fn token(State(app): State<Arc<App>>, body: Bytes) -> Response {
    respond(parsed::<TokenRequest>(&body).and_then(|request| signed(app.supabase.keys.token(&request))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    sub: String,
    kind: Forgery,
}

async fn attack_token(State(app): State<Arc<App>>, body: Bytes) -> Response {
    respond(parsed::<Attack>(&body).and_then(|attack| signed(app.supabase.keys.forged(&attack.sub, attack.kind))))
}

async fn rotate_keys(State(app): State<Arc<App>>) -> Response {
    respond(app.supabase.keys.rotate().map(|kid| json!({"kid": kid})).map_err(Rejected::from))
}

async fn credentials(State(app): State<Arc<App>>, body: Bytes) -> Response {
    respond(parsed::<NewCredentials>(&body).map(|new| {
        app.shared.rotate(new);
        json!({})
    }))
}

/// Returns the operations of a vendor that a fault can name.
fn operations(vendor: Vendor) -> &'static [&'static str] {
    match vendor {
        Vendor::Apify => apify::OPERATIONS,
        Vendor::Stripe => &stripe::OPERATIONS,
        _ => &[],
    }
}

async fn add_fault(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let added = parsed::<Rule>(&body).and_then(|rule| {
        let operations = operations(rule.vendor);
        app.shared.faults.add(rule, operations).map_err(|why| Rejected(400, why))
    });
    respond(added.map(|id| json!({"id": id})))
}

async fn clear_faults(State(app): State<Arc<App>>) -> Response {
    wire::json(200, &json!({"removed": app.shared.faults.clear()}))
}

async fn remove_fault(State(app): State<Arc<App>>, Path(id): Path<u64>) -> Response {
    wire::json(200, &json!({"removed": u8::from(app.shared.faults.remove(id))}))
}

async fn add_latency(State(app): State<Arc<App>>, body: Bytes) -> Response {
    respond(parsed::<Latency>(&body).map(|latency| {
        app.shared.faults.delay(latency);
        json!({})
    }))
}

async fn clear_latency(State(app): State<Arc<App>>) -> Response {
    app.shared.faults.clear_delays();
    wire::json(200, &json!({}))
}

async fn calls(State(app): State<Arc<App>>, Query(selection): Query<Selection>) -> Response {
    respond_with(&app.shared.calls.list(&selection))
}

async fn body(State(app): State<Arc<App>>, Path(id): Path<u64>) -> Response {
    match app.shared.calls.body(id) {
        Some(body) => {
            let mut response = Response::new(axum::body::Body::from(body));
            wire::set(&mut response, "content-type", "text/plain; charset=utf-8");
            response
        }
        None => wire::json(404, &json!({"error": "no such call"})),
    }
}

async fn bill(State(app): State<Arc<App>>, Query(selection): Query<Selection>) -> Response {
    respond_with(&app.shared.calls.bill(&selection))
}

/// Removes faults, delays, cached prompts and the call log. Credentials, keys, runs and Stripe's objects stay.
async fn reset(State(app): State<Arc<App>>) -> Response {
    app.shared.faults.clear();
    app.shared.faults.clear_delays();
    app.shared.calls.clear();
    app.models.forget_prompts();
    wire::json(200, &json!({}))
}
