//! The OpenAI API: Responses, Chat Completions and the list of models.

mod chat;
mod requests;
mod responses;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::bill::{Model, OPENAI};
use crate::calls::Vendor;
use crate::models::{Models, Refusal, exchange};
use crate::wire;
use chat::Chat;
use requests::{error, model};
use responses::Responses;

/// Returns the routes below `/openai`.
pub(crate) fn routes(models: Arc<Models>) -> Router {
    Router::new()
        .route(
            "/v1/responses",
            post(|State(models): State<Arc<Models>>, headers: HeaderMap, body: Bytes| async move {
                exchange::<Responses>(&models, &headers, body).await
            }),
        )
        .route(
            "/v1/chat/completions",
            post(|State(models): State<Arc<Models>>, headers: HeaderMap, body: Bytes| async move {
                exchange::<Chat>(&models, &headers, body).await
            }),
        )
        .route("/v1/models", get(list_models))
        .route("/v1/models/{model}", get(get_model))
        .fallback(async || error(&Refusal { status: 404, message: "Invalid URL".to_owned(), ..Refusal::default() }))
        .with_state(models)
}

fn listed(model: &Model) -> Value {
    json!({"id": model.name, "object": "model", "created": 1_790_000_000, "owned_by": "openai", "shutdown_date": model.shutdown})
}

fn unauthorized(models: &Models, headers: &HeaderMap) -> Option<Response> {
    let accepted = wire::bearer(headers).is_some_and(|key| models.shared.accepts(Vendor::Openai, key));
    (!accepted).then(|| error(&Refusal { status: 401, message: "Incorrect API key provided.".to_owned(), ..Refusal::default() }))
}

async fn list_models(State(models): State<Arc<Models>>, headers: HeaderMap) -> Response {
    let list: Vec<Value> = OPENAI.iter().map(listed).collect();
    unauthorized(&models, &headers).unwrap_or_else(|| wire::json(200, &json!({"object": "list", "data": list})))
}

async fn get_model(State(models): State<Arc<Models>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    unauthorized(&models, &headers).unwrap_or_else(|| match model(&json!({"model": name})) {
        Ok((model, _)) => wire::json(200, &listed(model)),
        Err(refusal) => error(&refusal),
    })
}
