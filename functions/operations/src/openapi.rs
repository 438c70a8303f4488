//! `GET /openapi.json`

use oslira_http::openapi::Api;
use serde_json::{Value, json};

/// Made by `cargo openapi` of what the handlers say of themselves.
const DOCUMENT: &str = include_str!("../openapi.json");

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.file(include_str!("openapi.rs"))
        .header("If-None-Match", &json!({ "type": "string" }), "The `ETag` of the version that is known already.")
        .answers_raw(200, json!({ "type": "object" }))
        .answers_raw(304, Value::Null)
        .end();
}

/// This document, of the version that answers. Public; kept for five minutes.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn openapi() -> Result<(), lambda_http::Error> {
    oslira_http::start_logging();
    oslira_http::document(DOCUMENT).await
}
