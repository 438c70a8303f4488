//! What Stripe tells us: taken in by the webhook, which only verifies and queues, and applied to the books by the consumer of that queue.

mod stripe_events;
mod stripe_webhook;

pub use stripe_events::{Bookkeeper, stripe_events};
pub use stripe_webhook::{Receiver, stripe_webhook};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Stripe", "The webhook that receives Stripe's events.");
    stripe_webhook::describe(api);
}
