//! The Lambda of `GET /health`.

use oslira_fn_health::{Health, health};
use oslira_http::public;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let dependencies = Health::from_env()?;
    public(move |_| health(dependencies.clone())).await
}
