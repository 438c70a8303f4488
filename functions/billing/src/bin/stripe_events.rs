//! The Lambda that consumes the queue of Stripe's events.

use oslira_aws::consumer::run;
use oslira_fn_billing::{Bookkeeper, stripe_events};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let bookkeeper = Bookkeeper::from_env()?;
    run(None, |message| stripe_events(message, bookkeeper.clone())).await
}
