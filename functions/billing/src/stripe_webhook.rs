//! `POST /api/webhooks/stripe`

use http::StatusCode;
use jiff::Timestamp;
use oslira_aws::queues::Queue;
use oslira_aws::secrets::{Fetcher, Secrets};
use oslira_aws::{MissingVariable, sdk_config};
use oslira_http::openapi::Api;
use oslira_http::{Delivery, Problem, Reply};
use oslira_vendors::stripe::{Event, SignatureError, verify};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The largest event that is taken. Stripe's have a few KB.
const MAX_BYTES: usize = 256 * 1024;

/// The secret `stripe-webhook`: what events are signed with; two while one is being rolled.
#[derive(Deserialize)]
struct SigningSecrets {
    secrets: Vec<SecretString>,
}

/// Where events come in.
#[derive(Clone)]
pub struct Receiver {
    secrets: Fetcher<SigningSecrets, Problem>,
    queue: Queue,
}

impl Receiver {
    /// Starts logging and reads `STRIPE_EVENTS_QUEUE_URL`.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config();
        let secrets = Secrets::from_env(&config)?.fetcher("stripe-webhook", Problem::from);
        Ok(Self { secrets, queue: Queue::from_env(&config, "STRIPE_EVENTS_QUEUE_URL")? })
    }

    /// Whether Stripe has signed this body. A signature of none of our secrets may be of one that was rolled just now.
    async fn verify(&self, signature: &str, body: &[u8], now: Timestamp) -> Result<(), Problem> {
        let check = |secrets: SigningSecrets| verify(signature, body, &secrets.secrets, now);
        let verified = match check((self.secrets)(false).await?) {
            Err(SignatureError::Mismatch) => check((self.secrets)(true).await?),
            decided => decided,
        };
        verified.map_err(|error| {
            let message = match error {
                SignatureError::Malformed => "The Stripe-Signature header is malformed.",
                SignatureError::Stale => "The signature is too old.",
                SignatureError::Mismatch => "The signature is not Stripe's for this body.",
            };
            invalid_signature(message).with_cause(error)
        })
    }
}

/// An event that is in the queue.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReceivedEvent")]
struct Received {
    received: bool,
    event_id: String,
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.stripe(include_str!("stripe_webhook.rs"))
        .raw_body(
            &json!({ "type": "object", "description": "An event of Stripe's." }),
            "The event as Stripe sent it, byte by byte, of at most 256 KB.",
        )
        .answers::<Received>(200)
        .refuses(400, "SIGNATURE_INVALID", "The signature is missing, too old, or not of this body.")
        .refuses(400, "INVALID_EVENT", "The body is no event of Stripe's.")
        .refuses(413, "PAYLOAD_TOO_LARGE", "The body is larger than 256 KB.")
        .end();
}

/// Takes in an event that Stripe has signed: puts it into the queue as it came and says so. What it means is found out later, so that
/// Stripe is never kept waiting and nothing is lost while the database is down.
///
/// # Errors
/// `SIGNATURE_INVALID` 400, `INVALID_EVENT` 400, `PAYLOAD_TOO_LARGE` 413 above 256 KB; `SERVICE_UNAVAILABLE` 503 when the queue cannot take
/// it: Stripe delivers it again then.
pub async fn stripe_webhook(delivery: Delivery, receiver: Receiver) -> Result<Reply, Problem> {
    let body = delivery.body(MAX_BYTES)?;
    let signature = delivery.header("stripe-signature").ok_or_else(|| invalid_signature("The Stripe-Signature header is missing."))?;
    receiver.verify(signature, body, delivery.received_at).await?;
    let no_event = || Problem::new(StatusCode::BAD_REQUEST, "INVALID_EVENT", "The body is no event of Stripe's.");
    let event = Event::parse(body).map_err(|_| no_event())?;
    let text = std::str::from_utf8(body).map_err(|_| no_event())?;
    receiver.queue.send(text.to_owned()).await?;
    tracing::info!(event_id = event.id, event_type = event.kind, "queued");
    Reply::ok(&Received { received: true, event_id: event.id })
}

fn invalid_signature(message: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "SIGNATURE_INVALID", message)
}

#[cfg(test)]
mod tests;
