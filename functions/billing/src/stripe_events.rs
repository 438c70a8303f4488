//! The consumer of the queue that the webhook fills.

use std::time::Duration;

use oslira_db::billing::Applied;
use oslira_db::{AdminDb, DbError};
use oslira_lambda::queue::{Message, MessageError};
use oslira_lambda::{Error, Init};
use oslira_vendors::stripe::{Effect, Event, InvalidEvent, Stripe};
use serde::Deserialize;
use serde_json::{Value, json};

/// How often an event is applied again after its transaction conflicted with another one.
const RETRIES: u32 = 2;

/// What the consumer is configured with.
#[derive(Debug, Deserialize)]
pub struct EventsConfig {
    /// Stripe's API.
    pub stripe_base_url: String,
}

/// The dependencies of the consumer, which applies events to the ledger.
pub struct StripeEventConsumer {
    db: AdminDb,
    stripe: Stripe,
}

impl StripeEventConsumer {
    /// Returns the dependencies that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(init: Init<EventsConfig>) -> Result<Self, Error> {
        Ok(Self {
            db: init.admin_db(),
            stripe: Stripe::new(oslira_vendors::http_client()?, init.config.stripe_base_url, init.secrets.credential("stripe")),
        })
    }

    /// Applies the event and all its effects in one transaction. Retries at once after a conflict with another transaction.
    async fn apply(&self, event: &Value) -> Result<Applied, DbError> {
        let mut retries = 0;
        loop {
            match self.db.apply_stripe_event(event).await {
                Err(DbError::Conflict(_)) if retries < RETRIES => {
                    retries += 1;
                    tokio::time::sleep(Duration::from_millis(50) * retries).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Applies one of Stripe's events to the ledger, with all its effects, once however often it is delivered.
///
/// # Errors
/// [`MessageError`]: too early for an event whose account or plan is not known yet, poison for one that contradicts itself or has the
/// layout of another version of Stripe's API.
pub async fn stripe_events(message: Message, consumer: &StripeEventConsumer) -> Result<(), MessageError> {
    let event = Event::parse(message.body.as_bytes()).map_err(|error| poison(&error))?;
    let span = tracing::Span::current();
    span.record("event_id", &event.id).record("event_type", &event.kind);
    if !consumer.stripe.has_key_of_mode(event.livemode).await? {
        if event.livemode {
            // A customer has paid. Once the secret holds the right key, the event can be redriven from the dead-letter queue.
            return Err(MessageError::Poison("the event is live, but the key in the secret is a test key".to_owned()));
        }
        // The signing secret of a test endpoint is among ours: test cards must not buy real credits.
        tracing::error!("test event dropped: the key in the secret is a live key");
        return Ok(());
    }
    let reading = event.read().map_err(|error| poison(&error))?;
    let effect = consumer.stripe.complete(reading).await?;
    let applied = consumer.apply(&argument(&event, &effect)).await?;
    if let Some(account_id) = applied.account_id {
        span.record("account_id", account_id.to_string());
    }
    tracing::info!(outcome = <&str>::from(applied.outcome), "event processed");
    Ok(())
}

/// Returns the argument of the SQL function `apply_stripe_event()`.
fn argument(event: &Event, effect: &Effect) -> Value {
    json!({
        "event_id": event.id, "event_type": event.kind, "created": event.created, "api_version": event.api_version, "effect": effect
    })
}

/// An event that cannot be read now cannot be read later either.
fn poison(error: &InvalidEvent) -> MessageError {
    MessageError::Poison(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use oslira_credential::{Credential, CredentialError};
    use oslira_vendors::stripe::StripeSecret;

    use super::*;

    /// Returns a consumer whose database and Stripe are both unavailable.
    fn disconnected() -> StripeEventConsumer {
        with_keys("sk_test_secret", "sk_test_secret")
    }

    /// As [`disconnected`], with these API keys: the cached one, and the one that the secret has now.
    fn with_keys(cached: &'static str, now: &'static str) -> StripeEventConsumer {
        let no_database = || std::future::ready(Err(CredentialError::Unavailable("none in tests".to_owned())));
        let fetched = AtomicBool::new(false);
        let key = Credential::new(move || {
            let api_key = if fetched.swap(true, Ordering::Relaxed) { now } else { cached };
            std::future::ready(Ok(StripeSecret { api_key: api_key.into() }))
        });
        StripeEventConsumer {
            db: AdminDb::new(Credential::new(no_database)),
            stripe: Stripe::new(oslira_vendors::http_client().unwrap(), "http://127.0.0.1:1", key),
        }
    }

    /// Returns a message as the queue delivers it.
    fn delivered(body: impl Into<String>) -> Message {
        Message { body: body.into(), deadline: std::time::Instant::now() + Duration::from_mins(1) }
    }

    fn message(kind: &str, object: &Value) -> String {
        json!({ "id": "evt_1", "object": "event", "type": kind, "created": 7, "api_version": "v", "data": { "object": object } })
            .to_string()
    }

    #[tokio::test]
    async fn a_malformed_event_is_poison() {
        for text in ["", "{}", &message("invoice.paid", &json!({ "customer": "jane" }))] {
            let error = stripe_events(delivered(text), &disconnected()).await.unwrap_err();
            assert!(matches!(&error, MessageError::Poison(why) if !why.contains("jane")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_unavailable_dependency_is_retried() {
        let ignored = stripe_events(delivered(message("charge.succeeded", &json!({}))), &disconnected()).await.unwrap_err();
        assert!(matches!(&ignored, MessageError::Unavailable(why) if why.starts_with("database unavailable")), "{ignored}");
        let refund = json!({ "id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 1, "currency": "usd" });
        let refund = stripe_events(delivered(message("charge.refunded", &refund)), &disconnected()).await.unwrap_err();
        assert_eq!(refund, MessageError::Unavailable("the connection failed (no connection)".to_owned()));
    }

    #[tokio::test]
    async fn a_test_event_buys_nothing_and_a_live_event_is_never_lost() {
        let event = |livemode: bool| {
            let mut event: Value = serde_json::from_str(&message("charge.succeeded", &json!({}))).unwrap();
            event["livemode"] = json!(livemode);
            delivered(event.to_string())
        };
        // The database, which is unavailable here, is not queried.
        assert_eq!(stripe_events(event(false), &with_keys("rk_live_1", "sk_live_2")).await, Ok(()));
        let lost = stripe_events(event(true), &with_keys("sk_test_1", "sk_test_2")).await.unwrap_err();
        assert!(matches!(lost, MessageError::Poison(_)), "{lost}");
        // A key that was corrected a moment ago counts at once.
        let corrected = stripe_events(event(true), &with_keys("sk_test_1", "sk_live_2")).await.unwrap_err();
        assert!(matches!(corrected, MessageError::Unavailable(_)), "{corrected}");
    }

    #[test]
    fn an_event_and_its_effect_are_what_the_database_expects() {
        let event = Event::parse(message("charge.succeeded", &json!({})).as_bytes()).unwrap();
        let expected = json!({ "event_id": "evt_1", "event_type": "charge.succeeded", "created": 7, "api_version": "v", "effect": { "kind": "ignored" } });
        assert_eq!(argument(&event, &Effect::Ignored), expected);
    }
}
