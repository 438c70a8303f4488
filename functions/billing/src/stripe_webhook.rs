//! `POST /api/webhooks/stripe`

use jiff::Timestamp;
use oslira_aws::queues::Queue;
use oslira_http::openapi::Api;
use oslira_http::{Delivery, Problem, Reply, endpoint, errors};
use oslira_lambda::Init;
use oslira_vendors::stripe::{Event, SignatureError, SignatureVerifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The largest event that is accepted. Stripe's have a few KB.
const MAX_BYTES: usize = 256 * 1024;

/// What the endpoint is configured with.
#[derive(Debug, Deserialize)]
pub struct WebhookConfig {
    /// The queue of Stripe's events.
    pub stripe_events_queue_url: String,
}

/// The dependencies of the endpoint.
#[derive(Clone)]
pub struct StripeWebhook {
    verifier: SignatureVerifier,
    queue: Queue,
}

impl StripeWebhook {
    /// Returns the dependencies that the configuration names.
    pub fn new(Init { config, aws, secrets }: Init<WebhookConfig>) -> Self {
        let verifier = SignatureVerifier::new(secrets.credential("stripe-webhook"));
        Self { verifier, queue: Queue::new(&aws, config.stripe_events_queue_url) }
    }

    /// Fetches the secret and makes the client, before the first event arrives.
    pub async fn warm_up(&self) {
        self.queue.warm_up();
        oslira_lambda::warm_up(self.verifier.warm_up()).await;
    }

    /// Verifies that Stripe signed this body.
    async fn verify(&self, signature: &str, body: &[u8], now: Timestamp) -> Result<(), Problem> {
        self.verifier.verify(signature, body, now).await.map_err(|error| {
            let message = match &error {
                SignatureError::Malformed => "The Stripe-Signature header is malformed.",
                SignatureError::Stale => "The signature is too old.",
                SignatureError::Mismatch => "The signature does not match the body.",
                SignatureError::Credential(_) => return Problem::unavailable(error),
            };
            invalid_signature(message).cause(error)
        })
    }
}

/// An event that was queued.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReceivedEvent")]
struct Received {
    received: bool,
    event_id: String,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.stripe(ROUTE)
        .raw_body(&json!({ "type": "object", "description": "A Stripe event." }), "The event exactly as Stripe sent it, at most 256 KB.")
        .responds::<Received>(200)
        .refuses(&errors::SIGNATURE_INVALID)
        .refuses(&errors::INVALID_EVENT)
        .refuses(&errors::PAYLOAD_TOO_LARGE.meaning("The body is larger than 256 KB."))
        .end();
}

/// Receives an event that Stripe has signed and queues it unchanged. A consumer applies it afterwards. Stripe redelivers an event after a 503.
#[endpoint(POST, "/api/webhooks/stripe")]
pub async fn stripe_webhook(delivery: Delivery, webhook: StripeWebhook) -> Result<Reply, Problem> {
    // The event is applied asynchronously, so that the response is fast and no event is lost while the database is unavailable.
    let body = delivery.body(MAX_BYTES)?;
    let signature = delivery.header("stripe-signature").ok_or_else(|| invalid_signature("The Stripe-Signature header is missing."))?;
    webhook.verify(signature, body, delivery.received_at).await?;
    let event = Event::parse(body).map_err(|_| &errors::INVALID_EVENT)?;
    let text = std::str::from_utf8(body).map_err(|_| &errors::INVALID_EVENT)?;
    webhook.queue.send(text.to_owned()).await?;
    tracing::info!(event_id = event.id, event_type = event.kind, "queued");
    Reply::ok(&Received { received: true, event_id: event.id })
}

fn invalid_signature(message: &str) -> Problem {
    Problem::of(&errors::SIGNATURE_INVALID).message(message)
}

#[cfg(test)]
mod tests;
