//! The Lambda that consumes the queue of Stripe's events.

use oslira_fn_billing::{EventsConfig, StripeEventConsumer, stripe_events};
use oslira_lambda::{init, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), oslira_lambda::Error> {
    queue::run(None, StripeEventConsumer::new(init::<EventsConfig>()?)?, stripe_events).await
}
