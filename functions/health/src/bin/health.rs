//! The Lambda of `GET /health`.

use oslira_fn_health::{Dependencies, HealthConfig, health};
use oslira_http::public;
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let dependencies = Dependencies::new(init::<HealthConfig>()?);
    public(move |_| health(dependencies.clone())).await
}
