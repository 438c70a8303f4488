//! The Lambda that consumes the queue of Stripe's events.

use oslira_fn_billing::{Bookkeeper, run, stripe_events};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let bookkeeper = Bookkeeper::from_env().await?;
    run(|message| stripe_events(message, bookkeeper.clone())).await
}
