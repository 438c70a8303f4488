//! Supabase Auth: the endpoints that verify its tokens.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use crate::calls::Vendor;
use crate::faults::{Fault, INJECTED};
use crate::shared::Shared;
use crate::tokens::KeyRing;
use crate::wire;

/// Supabase Auth: the project's signing keys.
#[derive(Debug)]
pub(crate) struct Supabase {
    shared: Arc<Shared>,
    pub(crate) keys: KeyRing,
}

impl Supabase {
    /// Creates a project that clients reach at `address`.
    ///
    /// # Errors
    /// As [`KeyRing::new`].
    pub(crate) fn new(shared: Arc<Shared>, address: &str, jwt_secret: String) -> anyhow::Result<Self> {
        Ok(Self { shared, keys: KeyRing::new(format!("{address}/auth/v1"), jwt_secret)? })
    }
}

/// Returns the routes below `/supabase`.
pub(crate) fn routes(supabase: Arc<Supabase>) -> Router {
    let routes = Router::new().route("/auth/v1/.well-known/jwks.json", get(jwks)).route("/auth/v1/user", get(user)).route(
        "/auth/v1/health",
        get(async || {
            wire::json(
                200,
                &json!({"version": "v2.180.0", "name": "GoTrue", "description": "GoTrue is a user registration and authentication API"}),
            )
        }),
    );
    routes.with_state(supabase)
}

fn error(status: u16, code: &str, message: &str) -> Value {
    json!({"code": status, "error_code": code, "msg": message})
}

/// Responds with the result of `read`: logs the call, delays it, and applies injected faults.
async fn respond(shared: &Shared, op: &'static str, read: impl FnOnce() -> (u16, Value)) -> Response {
    let call = shared.calls.begin(Vendor::Supabase, op, Bytes::new());
    wire::pause(shared.faults.call_time(Vendor::Supabase, b"")).await;
    let fault = shared.faults.take(Vendor::Supabase, op, b"");
    match &fault {
        Some(Fault::Status { status, retry_after, code, .. }) => {
            call.close(*status, &format!("status_{status}"), true);
            let code = code.as_deref().unwrap_or("unexpected_failure");
            let mut response = wire::json(*status, &error(*status, code, INJECTED));
            if let Some(seconds) = retry_after {
                wire::set(&mut response, "retry-after", &seconds.to_string());
            }
            return response;
        }
        Some(Fault::Disconnect) => {
            call.disconnect();
            return wire::disconnect();
        }
        Some(Fault::Hang { seconds }) => wire::pause(Duration::from_secs_f64(*seconds)).await,
        _ => {}
    }
    let (status, value) = read();
    if fault == Some(Fault::TruncatedJson) {
        call.close(status, "truncated_json", false);
        return wire::half_json(status, &value);
    }
    call.close(status, if status < 400 { "ok" } else { "rejected" }, true);
    wire::json(status, &value)
}

/// Responds with the public keys, cacheable for ten minutes as at Supabase.
async fn jwks(State(supabase): State<Arc<Supabase>>) -> Response {
    let mut response = respond(&supabase.shared, "jwks", || (200, supabase.keys.jwks())).await;
    if response.status().is_success() {
        wire::set(&mut response, "cache-control", "public, max-age=600");
    }
    response
}

/// Responds with the user of a token. Clients verify in this way the tokens that no public key verifies.
async fn user(State(supabase): State<Arc<Supabase>>, headers: HeaderMap) -> Response {
    let verified = wire::bearer(&headers).map(|token| supabase.keys.verified(token));
    respond(&supabase.shared, "user", || match verified {
        None => (401, error(401, "no_authorization", "This endpoint requires a valid Bearer token")),
        Some(None) => (403, error(403, "bad_jwt", "invalid JWT: unable to parse or verify signature")),
        Some(Some(claims)) => (
            200,
            json!({"id": claims["sub"], "aud": claims["aud"], "role": claims["role"], "email": claims["email"], "phone": "",
                "email_confirmed_at": "2026-01-05T10:00:00Z", "confirmed_at": "2026-01-05T10:00:00Z", "last_sign_in_at": "2026-11-20T10:00:00Z",
                "app_metadata": claims["app_metadata"], "user_metadata": claims["user_metadata"], "identities": [],
                "created_at": "2026-01-05T10:00:00Z", "updated_at": "2026-11-20T10:00:00Z", "is_anonymous": false}),
        ),
    })
    .await
}
