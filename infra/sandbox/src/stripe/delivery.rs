//! Sending events to the endpoint that is set, signed, and again until it takes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Stripe;

/// The secret of an endpoint that was set without one.
pub(super) const USUAL_SECRET: &str = "whsec_sandbox";
/// The pauses before the further tries; Stripe's are hours.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];
/// How long an endpoint may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where events go.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) secret: String,
    /// Signs too, as for a day after a secret was rolled.
    pub(super) old_secret: Option<String>,
}

/// One try.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sending {
    pub(super) event: String,
    /// From 1.
    attempt: usize,
    /// The HTTP status, if there was an answer.
    status: Option<u16>,
    error: Option<String>,
    at_ms: i64,
}

/// What delivery remembers.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) endpoint: Option<Endpoint>,
    /// Events that contain one of these texts, or all where it is none, are held.
    pub(super) holds: Vec<Option<String>>,
    /// Held events, the oldest first.
    pub(super) held: Vec<String>,
    pub(super) attempts: Vec<Sending>,
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Courier {
    client: reqwest::Client,
    desk: Mutex<Desk>,
}

/// One delivery by hand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByHand {
    times: Option<u16>,
    #[serde(default)]
    concurrent: bool,
    secret: Option<String>,
    timestamp: Option<i64>,
    #[serde(default)]
    extra_v1: Vec<String>,
    url: Option<String>,
}

/// The `v1` signature of a body: HMAC-SHA256 over `{timestamp}.{body}` with the whole secret, prefix included.
pub(super) fn signature(secret: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body.as_bytes());
    let hex = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from_digit(u32::from(half), 16).unwrap_or('0'));
    context.sign().as_ref().iter().flat_map(hex).collect()
}

/// The `Stripe-Signature` header with those `v1` signatures.
pub(super) fn header(timestamp: i64, signatures: &[String]) -> String {
    signatures.iter().fold(format!("t={timestamp}"), |header, signature| header + ",v1=" + signature)
}

/// The body of a delivery, laid out as Stripe does: the bytes are what is signed, not the JSON.
pub(super) fn body(event: &Value) -> String {
    serde_json::to_string_pretty(event).unwrap_or_default()
}

impl Courier {
    pub(super) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, desk: Mutex::default() })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        work(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a body once and gives the HTTP status.
    async fn send(&self, url: &str, header: &str, body: String) -> Result<u16, String> {
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

/// Sends an event until the endpoint takes it, and then notes that nobody waits for it any more.
pub(super) async fn deliver(stripe: Arc<Stripe>, id: String) {
    for attempt in 1..=PAUSES.len() + 1 {
        let endpoint = stripe.courier.with(|desk| desk.endpoint.clone());
        let event = stripe.read(|ledger| ledger.event(&id).cloned());
        let (Some(endpoint), Some(event)) = (endpoint, event) else { return };
        let (body, now) = (body(&event), Timestamp::now());
        let secrets = std::iter::once(&endpoint.secret).chain(&endpoint.old_secret);
        let signatures: Vec<String> = secrets.map(|secret| signature(secret, now.as_second(), &body)).collect();
        let sent = stripe.courier.send(&endpoint.url, &header(now.as_second(), &signatures), body).await;
        let taken = sent.as_ref().is_ok_and(|status| (200..300).contains(status));
        if taken {
            stripe.read(|ledger| ledger.set_pending(&id, 0));
        }
        let entry =
            Sending { event: id.clone(), attempt, status: sent.as_ref().ok().copied(), error: sent.err(), at_ms: now.as_millisecond() };
        stripe.courier.with(|desk| desk.attempts.push(entry));
        match PAUSES.get(attempt - 1) {
            Some(pause) if !taken => tokio::time::sleep(*pause).await,
            _ => return,
        }
    }
}

/// Sends an event by hand and gives the statuses; none where nobody answered.
///
/// # Errors
/// When there is nowhere to send it.
pub(super) async fn deliver_by_hand(stripe: &Stripe, event: &Value, order: &ByHand) -> Result<Vec<Option<u16>>, String> {
    let endpoint = stripe.courier.with(|desk| desk.endpoint.clone());
    let url = order.url.clone().or_else(|| endpoint.as_ref().map(|endpoint| endpoint.url.clone()));
    let url = url.ok_or("no endpoint is set, and no url given")?;
    let secret = order.secret.clone().or_else(|| endpoint.map(|endpoint| endpoint.secret)).unwrap_or_else(|| USUAL_SECRET.to_owned());
    let body = body(event);
    let once = || async {
        let timestamp = order.timestamp.unwrap_or_else(super::ledger::now);
        let mut signatures = order.extra_v1.clone();
        signatures.push(signature(&secret, timestamp, &body));
        stripe.courier.send(&url, &header(timestamp, &signatures), body.clone()).await.ok()
    };
    let times = order.times.unwrap_or(1);
    if order.concurrent {
        return Ok(futures::future::join_all((0..times).map(|_| once())).await);
    }
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(once().await);
    }
    Ok(statuses)
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
