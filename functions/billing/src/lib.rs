//! Stripe's events: the webhook verifies and queues them, and the consumer of that queue applies them to the ledger.

mod stripe_events;
mod stripe_webhook;

pub use stripe_events::{EventsConfig, StripeEventConsumer, stripe_events};
pub use stripe_webhook::{StripeWebhook, WebhookConfig, stripe_webhook};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Stripe", "The webhook that receives Stripe's events.");
    stripe_webhook::describe(api);
}
