//! The Lambda that scrapes for `refresh-check`, which alone may invoke it.

use oslira_fn_cache::{ProfileRefresher, RefreshProfileConfig, refresh_profile};
use oslira_lambda::{direct, init};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    direct::run("REFRESH_FAILED", ProfileRefresher::new(init::<RefreshProfileConfig>()?)?, refresh_profile).await
}
