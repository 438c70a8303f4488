//! Sentry: the endpoint that receives envelopes. The call log has their contents.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use sentry_types::Auth;
use sentry_types::protocol::v7::Envelope;
use serde_json::json;

use crate::calls::Vendor;
use crate::faults::{Fault, INJECTED};
use crate::shared::Shared;
use crate::wire;

/// Returns the routes below `/sentry`. A project's address is `http://<public key>@127.0.0.1:<port>/sentry/<project>`.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new().route("/api/{project}/envelope/", post(envelope)).with_state(shared)
}

async fn envelope(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let call = shared.calls.begin(Vendor::Sentry, "envelope", body.clone());
    match shared.faults.take(Vendor::Sentry, "envelope", &body) {
        Some(Fault::Status { status, .. }) => {
            call.close(status, &format!("status_{status}"), true);
            return wire::json(status, &json!({"detail": INJECTED}));
        }
        Some(Fault::Disconnect) => {
            call.disconnect();
            return wire::disconnect();
        }
        Some(Fault::Hang { seconds }) => wire::pause(Duration::from_secs_f64(seconds)).await,
        _ => {}
    }
    let auth = headers.get("x-sentry-auth").and_then(|value| value.to_str().ok()).and_then(|text| Auth::from_str(text).ok());
    let known = auth.is_some_and(|auth| auth.version() == 7 && shared.accepts(Vendor::Sentry, auth.public_key()));
    let (status, answer) = match Envelope::from_slice(&body) {
        _ if !known => (403, json!({"detail": "event submission rejected with_reason: ProjectId"})),
        Ok(envelope) => (200, json!({"id": envelope.uuid().map(|id| id.simple().to_string())})),
        Err(error) => (400, json!({"detail": "invalid event envelope", "causes": [error.to_string()]})),
    };
    call.close(status, if status == 200 { "ok" } else { "rejected" }, true);
    wire::json(status, &answer)
}
