//! The delivery of events: the endpoint, signatures, held events and the log of attempts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The secret of an endpoint that is configured without one.
pub(super) const DEFAULT_SECRET: &str = "whsec_sandbox";
/// The pauses between attempts. Stripe's last hours.
pub(super) const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];
/// The time in which an endpoint must respond.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The endpoint that receives events.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) secret: String,
    /// The previous secret, which also signs, as Stripe does for a day after a secret is rolled.
    pub(super) old_secret: Option<String>,
}

/// One delivery attempt.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Attempt {
    pub(super) event: String,
    /// The number of the attempt, from 1.
    #[serde(rename = "attempt")]
    pub(super) number: usize,
    /// The HTTP status, if there was a response.
    pub(super) status: Option<u16>,
    pub(super) error: Option<String>,
    pub(super) at_ms: i64,
}

/// The state of the delivery.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) endpoint: Option<Endpoint>,
    /// Texts whose events are held. `None` holds all events.
    pub(super) holds: Vec<Option<String>>,
    /// Held events, the oldest first.
    pub(super) held: Vec<String>,
    pub(super) attempts: Vec<Attempt>,
}

/// The sender of events.
#[derive(Debug)]
pub(super) struct Courier {
    client: reqwest::Client,
    outgoing: Mutex<Outgoing>,
}

/// A request to deliver an event now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryRequest {
    pub(super) times: Option<u16>,
    #[serde(default)]
    pub(super) concurrent: bool,
    pub(super) secret: Option<String>,
    pub(super) timestamp: Option<i64>,
    #[serde(default)]
    pub(super) extra_v1: Vec<String>,
    pub(super) url: Option<String>,
}

/// Returns the `v1` signature of a body: HMAC-SHA256 over `{timestamp}.{body}` with the whole secret, prefix included.
pub(super) fn signature(secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body.as_bytes());
    let hex = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from_digit(u32::from(half), 16).unwrap_or('0'));
    context.sign().as_ref().iter().flat_map(hex).collect()
}

/// Returns the `Stripe-Signature` header with these `v1` signatures.
pub(super) fn header(timestamp: i64, signatures: &[String]) -> String {
    signatures.iter().fold(format!("t={timestamp}"), |header, signature| header + ",v1=" + signature)
}

/// Returns the body of a delivery, indented as Stripe's are: the signature covers the bytes, not the JSON.
pub(super) fn body(event: &Value) -> String {
    serde_json::to_string_pretty(event).unwrap_or_default()
}

impl Courier {
    pub(super) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, outgoing: Mutex::default() })
    }

    pub(super) fn with<T>(&self, edit: impl FnOnce(&mut Outgoing) -> T) -> T {
        edit(&mut self.outgoing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a body once and returns the HTTP status.
    pub(super) async fn send(&self, url: &str, header: &str, body: String) -> Result<u16, String> {
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json; charset=utf-8")
            .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
            .header("stripe-signature", header)
            .body(body);
        match request.send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body_with_the_whole_secret() {
        // Computed with openssl: printf '1700000000.{"id":1}' | openssl dgst -sha256 -hmac whsec_sandbox
        let expected = "066ea16bfa55250c81591c23a693678fd5a70ff433b9c76d93bb7c27fe9c1258";
        assert_eq!(signature("whsec_sandbox", 1_700_000_000, "{\"id\":1}"), expected);
        assert_eq!(header(7, &["a".to_owned(), "b".to_owned()]), "t=7,v1=a,v1=b");
    }
}
