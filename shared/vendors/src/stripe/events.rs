//! Stripe's events and their effects.
//!
//! Objects are read as far as they are used (`layout`); other fields are ignored. Errors are logged: they name fields and never contain their
//! values.

mod checkout;
mod effect;
mod layout;
mod reversals;
mod subscriptions;

use serde::Deserialize;
use serde_json::Value;

pub use self::effect::{BilledItem, Change, DisputeState, Effect, InvoiceStatus, Reading, Reversal};
use super::CURRENCY;

/// An event as Stripe delivers it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Stripe's id of the event (`evt_…`), which is the same in every delivery.
    pub id: String,
    /// Its type, such as `invoice.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, in seconds since 1970.
    pub created: i64,
    /// Whether it is about real money. A live system must ignore events of test mode, and the other way round.
    #[serde(default)]
    pub livemode: bool,
    /// The version of the API whose layout its object has.
    #[serde(default)]
    pub api_version: Option<String>,
    /// The connected account that it happened in. None if it is our own.
    #[serde(default)]
    account: Option<String>,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Data {
    object: Value,
    #[serde(default)]
    previous_attributes: Value,
}

/// An event that cannot be read. Retrying does not help; another version of this code, or of the endpoint at Stripe, may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidEvent {
    /// The field of the event's object, as a JSON pointer.
    pub path: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl InvalidEvent {
    fn new(path: &str, problem: &'static str) -> Self {
        Self { path: path.to_owned(), problem }
    }

    fn missing(path: String) -> Self {
        Self { path, problem: "is missing: is the endpoint of our API version?" }
    }
}

impl Event {
    /// Parses an event with any object.
    ///
    /// # Errors
    /// Fails when the body is not an event.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidEvent> {
        let no_event = || InvalidEvent::new("the body", "is not an event of Stripe's");
        let value: Value = serde_json::from_slice(body).map_err(|_| no_event())?;
        if value["object"] != "event" {
            return Err(no_event()); // thin events, for example, which only refer to their object
        }
        serde_json::from_value(value).map_err(|_| no_event())
    }

    /// Reads the event's object. What is certainly not ours (another system's metadata, a connected account) is ignored; what only the database
    /// knows (prices, customers, payments) is decided there.
    ///
    /// # Errors
    /// Fails when the object does not have the layout of the event's type and our API version, or contradicts itself.
    pub fn read(&self) -> Result<Reading, InvalidEvent> {
        if self.account.is_some() {
            return Ok(Reading::Effect(Effect::Ignored));
        }
        let object = &self.data.object;
        let effect = match self.kind.as_str() {
            "customer.created" | "customer.updated" => checkout::customer(object, false)?,
            "customer.deleted" => checkout::customer(object, true)?,
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => checkout::session(object)?,
            "customer.subscription.created"
            | "customer.subscription.updated"
            | "customer.subscription.paused"
            | "customer.subscription.resumed" => subscriptions::subscription(object, false)?,
            "customer.subscription.deleted" => subscriptions::subscription(object, true)?,
            "invoice.paid" => return subscriptions::invoice(object, InvoiceStatus::Paid),
            "invoice.payment_failed" => return subscriptions::invoice(object, InvoiceStatus::Open),
            "invoice.voided" => return subscriptions::invoice(object, InvoiceStatus::Void),
            "invoice.marked_uncollectible" => return subscriptions::invoice(object, InvoiceStatus::Uncollectible),
            "charge.refunded" => return reversals::refunded(object, &self.data.previous_attributes),
            "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => return reversals::refund(object),
            "charge.dispute.created"
            | "charge.dispute.updated"
            | "charge.dispute.funds_withdrawn"
            | "charge.dispute.funds_reinstated"
            | "charge.dispute.closed" => return reversals::dispute(object),
            _ => Effect::Ignored,
        };
        Ok(Reading::Effect(effect))
    }
}

#[cfg(test)]
mod tests;
