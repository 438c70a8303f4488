//! The Lambda of `GET /openapi.json`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    oslira_fn_operations::openapi().await
}
