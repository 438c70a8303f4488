//! `GET /openapi.json`

use oslira_http::endpoint;
use oslira_http::openapi::Api;
use serde_json::json;

/// The document that `cargo openapi` writes.
const DOCUMENT: &str = include_str!("../openapi.json");

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.file(ROUTE)
        .header("If-None-Match", &json!({ "type": "string" }), "The `ETag` of the version that the client has.")
        .responds_with_document(json!({ "type": "object" }))
        .end();
}

/// Returns this document, of the deployed version. Requires no authentication. May be cached for five minutes.
///
/// # Errors
/// Fails if the Lambda runtime cannot be reached.
#[endpoint(GET, "/openapi.json")]
pub async fn openapi() -> Result<(), lambda_http::Error> {
    oslira_lambda::init_logging()?;
    oslira_http::document(DOCUMENT).await
}
