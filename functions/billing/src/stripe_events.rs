//! The consumer of the queue that the webhook fills.

use std::convert::identity;
use std::time::Duration;

use oslira_aws::consumer::{Message, MessageError};
use oslira_aws::secrets::{Fetcher, Secrets};
use oslira_aws::{AwsError, sdk_config, variable};
use oslira_db::billing::Applied;
use oslira_db::{AdminDb, DbError};
use oslira_vendors::stripe::{Effect, Event, InvalidEvent, Reading, Stripe};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

/// How often an event is taken again after it got in another transaction's way.
const RETRIES: u32 = 2;

/// The secret `stripe`.
#[derive(Deserialize)]
struct ApiKey {
    api_key: SecretString,
}

/// Who writes events into the books.
#[derive(Clone)]
pub struct Bookkeeper {
    db: AdminDb,
    stripe: Stripe,
    key: Fetcher<ApiKey, AwsError>,
}

impl Bookkeeper {
    /// Starts logging and reads `STRIPE_BASE_URL`.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, lambda_runtime::Error> {
        oslira_telemetry::init();
        let secrets = Secrets::from_env(&sdk_config())?;
        Ok(Self {
            db: AdminDb::new(secrets.fetcher("database-admin", DbError::no_credential)),
            stripe: Stripe::new(oslira_vendors::http_client()?, variable("STRIPE_BASE_URL")?),
            key: secrets.fetcher("stripe", identity),
        })
    }

    /// What the event changes. What a payment that went back had paid is asked of Stripe.
    async fn effect(&self, event: &Event) -> Result<Effect, MessageError> {
        match event.read().map_err(poison)? {
            Reading::Effect(effect) => Ok(effect),
            Reading::Reversal(reversal) => {
                let invoice = self.invoice(&reversal.payment_intent).await?;
                Ok(reversal.of(invoice))
            }
        }
    }

    /// Whether our key is one of real money, as the secret says that is kept, or, with `fresh`, as it says now.
    async fn is_live(&self, fresh: bool) -> Result<bool, MessageError> {
        let key = (self.key)(fresh).await?.api_key;
        Ok(["sk_live_", "rk_live_"].iter().any(|prefix| key.expose_secret().starts_with(prefix)))
    }

    /// The invoice of a payment. A key that is refused may have been rotated.
    async fn invoice(&self, payment_intent: &str) -> Result<Option<String>, MessageError> {
        let key = (self.key)(false).await?.api_key;
        match self.stripe.invoice_of_payment(&key, payment_intent).await {
            Err(error) if error.is_unauthorized() => {
                let key = (self.key)(true).await?.api_key;
                Ok(self.stripe.invoice_of_payment(&key, payment_intent).await?)
            }
            other => Ok(other?),
        }
    }

    /// One transaction: the event and all that it changes. Two that got in each other's way try again at once.
    async fn apply(&self, entry: &Value) -> Result<Applied, DbError> {
        let mut retries = 0;
        loop {
            match self.db.apply_stripe_event(entry).await {
                Err(DbError::Conflict(_)) if retries < RETRIES => {
                    retries += 1;
                    tokio::time::sleep(Duration::from_millis(50) * retries).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Writes one of Stripe's events into the books, with all that follows from it, once however often it comes.
///
/// # Errors
/// [`MessageError`]: too early for an event whose account or plan is not known yet, poison for one that contradicts itself or is laid out
/// as in another version of Stripe's API.
pub async fn stripe_events(message: Message, bookkeeper: Bookkeeper) -> Result<(), MessageError> {
    let event = Event::parse(message.body.as_bytes()).map_err(poison)?;
    let span = tracing::Span::current();
    span.record("event_id", &event.id).record("event_type", &event.kind);
    if event.livemode != bookkeeper.is_live(false).await? && event.livemode != bookkeeper.is_live(true).await? {
        if event.livemode {
            // Somebody has paid. With the right key in the secret it can be taken out of the dead letters.
            return Err(MessageError::Poison("a live event, but the secret's key is one for tests".to_owned()));
        }
        // A test endpoint's secret among ours: test cards must not buy real credits.
        tracing::error!("a test event was dropped: the secret's key is a live one");
        return Ok(());
    }
    let effect = bookkeeper.effect(&event).await?;
    let applied = bookkeeper.apply(&entry(&event, &effect)).await?;
    if let Some(account_id) = applied.account_id {
        span.record("account_id", account_id.to_string());
    }
    tracing::info!(outcome = ?applied.outcome, "event processed");
    Ok(())
}

/// The event as the database takes it.
fn entry(event: &Event, effect: &Effect) -> Value {
    json!({
        "event_id": event.id, "event_type": event.kind, "created": event.created, "api_version": event.api_version, "effect": effect
    })
}

/// What makes no sense to us will not make more next time.
fn poison(error: InvalidEvent) -> MessageError {
    MessageError::Poison(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// With a database and a Stripe that are both out of reach.
    fn alone() -> Bookkeeper {
        Bookkeeper {
            db: AdminDb::new(Arc::new(|_| Box::pin(async { Err(DbError::no_credential("none in tests")) }))),
            stripe: Stripe::new(oslira_vendors::http_client().unwrap(), "http://127.0.0.1:1"),
            key: Arc::new(|_| Box::pin(async { Ok(ApiKey { api_key: "sk_test_secret".into() }) })),
        }
    }

    /// As it comes out of the queue.
    fn taken(body: impl Into<String>) -> Message {
        Message { body: body.into(), deadline: std::time::Instant::now() + Duration::from_mins(1) }
    }

    fn message(kind: &str, object: &Value) -> String {
        json!({ "id": "evt_1", "object": "event", "type": kind, "created": 7, "api_version": "v", "data": { "object": object } })
            .to_string()
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_poison() {
        for text in ["", "{}", &message("invoice.paid", &json!({ "customer": "jane" }))] {
            let error = stripe_events(taken(text), alone()).await.unwrap_err();
            assert!(matches!(&error, MessageError::Poison(why) if !why.contains("jane")), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_out_of_reach_is_waited_for() {
        let ignored = stripe_events(taken(message("charge.succeeded", &json!({}))), alone()).await.unwrap_err();
        assert!(matches!(&ignored, MessageError::Unavailable(why) if why.starts_with("database unavailable")), "{ignored}");
        let refund = json!({ "id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 1, "currency": "usd" });
        let refund = stripe_events(taken(message("charge.refunded", &refund)), alone()).await.unwrap_err();
        assert_eq!(refund, MessageError::Unavailable("the connection failed (no connection)".to_owned()));
    }

    /// As [`alone`], with these keys of Stripe's: the one that is kept, and the one that the secret holds now.
    fn with_keys(kept: &'static str, now: &'static str) -> Bookkeeper {
        let key = move |fresh| if fresh { now } else { kept };
        Bookkeeper { key: Arc::new(move |fresh| Box::pin(async move { Ok(ApiKey { api_key: key(fresh).into() }) })), ..alone() }
    }

    #[tokio::test]
    async fn test_money_buys_nothing_and_real_money_is_never_lost() {
        let event = |livemode: bool| {
            let mut event: Value = serde_json::from_str(&message("charge.succeeded", &json!({}))).unwrap();
            event["livemode"] = json!(livemode);
            taken(event.to_string())
        };
        // The database, which is out of reach here, is not even asked.
        assert_eq!(stripe_events(event(false), with_keys("rk_live_1", "sk_live_2")).await, Ok(()));
        let lost = stripe_events(event(true), with_keys("sk_test_1", "sk_test_2")).await.unwrap_err();
        assert!(matches!(lost, MessageError::Poison(_)), "{lost}");
        // A key that was put right a moment ago counts at once.
        let mended = stripe_events(event(true), with_keys("sk_test_1", "sk_live_2")).await.unwrap_err();
        assert!(matches!(mended, MessageError::Unavailable(_)), "{mended}");
    }

    #[test]
    fn an_entry_is_what_the_database_expects() {
        let event = Event::parse(message("charge.succeeded", &json!({})).as_bytes()).unwrap();
        let expected = json!({ "event_id": "evt_1", "event_type": "charge.succeeded", "created": 7, "api_version": "v", "effect": { "kind": "ignored" } });
        assert_eq!(entry(&event, &Effect::Ignored), expected);
    }
}
