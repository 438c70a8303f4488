//! The side of the sandbox that tests and the local stack steer it by.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

/// Reads a JSON body, whatever its content type says.
fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| refused(&error.to_string()))
}

fn refused(why: &str) -> Response {
    wire::json(400, &json!({"error": why}))
}

fn answered(result: Result<Value, Response>) -> Response {
    result.map_or_else(|response| response, |value| wire::json(200, &value))
}

fn signed(token: anyhow::Result<String>) -> Result<Value, Response> {
    match token {
        Ok(token) => Ok(json!({"access_token": token})),
        Err(error) => Err(wire::json(500, &json!({"error": error.to_string()}))),
    }
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
    match app.keys.rotate() {
        Ok(kid) => wire::json(200, &json!({"kid": kid})),
        Err(error) => wire::json(500, &json!({"error": error.to_string()})),
    }
}

async fn credentials(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<NewCredentials>(&body).map(|new| {
        app.rotate(new);
        json!({})
    }))
}

async fn add_fault(State(app): State<Arc<App>>, body: Bytes) -> Response {
    answered(parsed::<Rule>(&body).and_then(|rule| match app.faults.add(rule) {
        Ok(id) => Ok(json!({"id": id})),
        Err(why) => Err(refused(&why)),
    }))
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
    let calls = app.calls.list(&selection);
    serde_json::to_value(calls).map_or_else(|error| wire::json(500, &json!({"error": error.to_string()})), |calls| wire::json(200, &calls))
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
    let bill = app.calls.bill(&selection);
    serde_json::to_value(bill).map_or_else(|error| wire::json(500, &json!({"error": error.to_string()})), |bill| wire::json(200, &bill))
}

/// Forgets faults, delays and the log; credentials, keys and runs stay.
async fn reset(State(app): State<Arc<App>>) -> Response {
    app.faults.clear();
    app.faults.undelay();
    app.calls.clear();
    wire::json(200, &json!({}))
}
