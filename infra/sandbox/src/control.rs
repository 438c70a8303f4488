//! The side of the sandbox that tests and the local stack steer it by.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::{App, NewCredentials};
use crate::calls::Selection;
use crate::faults::{Latency, Rule};
use crate::tokens::{Forgery, TokenRequest};
use crate::wire;

/// The routes below `/_control`.
pub(crate) fn routes() -> Router<Arc<App>> {
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
        .fallback(async || wire::json(404, &json!({"error": "there is no such control"})))
}

/// Why an order is not carried out.
struct Refused(u16, String);

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self(500, error.to_string())
    }
}

/// Reads a JSON body, whatever its content type says.
fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused(400, error.to_string()))
}

fn answered(result: Result<Value, Refused>) -> Response {
    match result {
        Ok(value) => wire::json(200, &value),
        Err(Refused(status, why)) => wire::json(status, &json!({"error": why})),
    }
}

fn told(value: &impl Serialize) -> Response {
    answered(serde_json::to_value(value).map_err(|error| Refused(500, error.to_string())))
}

fn signed(token: anyhow::Result<String>) -> Result<Value, Refused> {
    Ok(json!({"access_token": token?}))
}

async fn token(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<TokenRequest>(&body).and_then(|wanted| signed(app.keys.token(&wanted))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    sub: String,
    kind: Forgery,
}

async fn attack_token(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<Attack>(&body).and_then(|attack| signed(app.keys.forged(&attack.sub, attack.kind))))
}

async fn rotate_keys(State(app): State<Arc<App>>) -> Response {
    answered(app.keys.rotate().map(|kid| json!({"kid": kid})).map_err(Refused::from))
}

async fn credentials(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<NewCredentials>(&body).map(|new| {
        app.rotate(new);
        json!({})
    }))
}

async fn add_fault(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let ordered = parsed::<Rule>(&body).and_then(|rule| app.faults.add(rule).map_err(|why| Refused(400, why)));
    answered(ordered.map(|id| json!({"id": id})))
}

async fn clear_faults(State(app): State<Arc<App>>) -> Response {
    wire::json(200, &json!({"removed": app.faults.clear()}))
}

async fn remove_fault(State(app): State<Arc<App>>, Path(id): Path<u64>) -> Response {
    wire::json(200, &json!({"removed": u8::from(app.faults.remove(id))}))
}

async fn add_latency(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<Latency>(&body).map(|latency| {
        app.faults.delay(latency);
        json!({})
    }))
}

async fn clear_latency(State(app): State<Arc<App>>) -> Response {
    app.faults.undelay();
    wire::json(200, &json!({}))
}

async fn calls(State(app): State<Arc<App>>, Query(selection): Query<Selection>) -> Response {
    told(&app.calls.list(&selection))
}

async fn body(State(app): State<Arc<App>>, Path(id): Path<u64>) -> Response {
    match app.calls.body(id) {
        Some(body) => {
            let mut response = Response::new(axum::body::Body::from(body));
            wire::set(&mut response, "content-type", "text/plain; charset=utf-8");
            response
        }
        None => wire::json(404, &json!({"error": "there is no call of that id"})),
    }
}

async fn bill(State(app): State<Arc<App>>, Query(selection): Query<Selection>) -> Response {
    told(&app.calls.bill(&selection))
}

/// Forgets faults, delays, cached prompts and the log; credentials, keys, runs and all of Stripe's objects stay.
async fn reset(State(app): State<Arc<App>>) -> Response {
    app.faults.clear();
    app.faults.undelay();
    app.calls.clear();
    app.prompts.clear();
    wire::json(200, &json!({}))
}
