//! The Lambda that scrapes for `refresh-check`, which alone may invoke it.

use oslira_fn_cache::{Refresher, serve_refresh_profile};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve_refresh_profile(Refresher::from_env()?).await
}
