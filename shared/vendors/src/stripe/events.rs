//! What Stripe's events mean for us.
//!
//! Read field by field, in the layout of [`API_VERSION`](super::API_VERSION) and tolerant of what it adds. Where Stripe sends an id or
//! the object itself, both will do. Errors name fields and never hold their values: they are logged.

mod object;

use oslira_domain::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::object::{Object, missing};

/// An event as Stripe delivers it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Stripe's id of it (`evt_…`), the same however often it is delivered.
    pub id: String,
    /// What happened, such as `invoice.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened, in seconds since 1970.
    pub created: i64,
    /// Whether real money is meant. Events of Stripe's test mode are none of a live system's, and the other way round.
    #[serde(default)]
    pub livemode: bool,
    /// In whose layout its object is.
    #[serde(default)]
    pub api_version: Option<String>,
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Data {
    object: Value,
}

/// An event that we cannot make sense of. Trying again does not help; another version of this code, or of the endpoint at Stripe, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidEvent {
    /// Which field of the event's object.
    pub path: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What an event changes, as `apply_stripe_event` in the database takes it. Amounts are cents, times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Nothing.
    Ignored,
    /// Which customer an account is.
    Customer {
        /// The customer.
        customer: String,
        /// The account.
        account_id: AccountId,
        /// Whether we made it for this account. Otherwise it is somebody who pays for the account and said so.
        made_by_us: bool,
        /// Whether it is gone.
        deleted: bool,
    },
    /// A purchase of credits has been paid.
    Payment {
        /// The Checkout Session.
        session_id: String,
        /// The payment; none if there was nothing to pay.
        payment_intent: Option<String>,
        /// Who bought.
        account_id: AccountId,
        /// How many credits.
        credits: i64,
        /// What was paid.
        amount_cents: i64,
        /// The account's customer.
        customer: Option<String>,
    },
    /// How a subscription stands.
    Subscription {
        /// The subscription.
        subscription_id: String,
        /// Whose it is.
        customer: String,
        /// Whose it is, if its metadata says so.
        account_id: Option<AccountId>,
        /// Stripe's word for how it stands.
        status: String,
        /// The price, by which we know the plan.
        price_id: String,
        /// When the current period began.
        period_start: i64,
        /// When it ends.
        period_end: i64,
        /// When it was cancelled.
        canceled_at: Option<i64>,
        /// Whether it ends with the period.
        cancel_at_period_end: bool,
        /// Whether it has ended for good.
        deleted: bool,
    },
    /// An invoice was paid, or could not be.
    Invoice {
        /// The invoice.
        invoice_id: String,
        /// Whose it is.
        customer: String,
        /// The subscription it is for.
        subscription_id: Option<String>,
        /// Whether it was paid.
        paid: bool,
        /// What was to be paid.
        amount_due: i64,
        /// What was paid.
        amount_paid: i64,
        /// In which currency.
        currency: String,
        /// The price of the period that it charges; none if it only settles a change of plans.
        price_id: Option<String>,
        /// What it charges for the subscription: whole periods, and what a change of plans leaves to be settled.
        lines: Vec<InvoiceLine>,
        /// What it comes to, before what the customer has to his credit.
        total: i64,
        /// Whose it is, if the subscription's metadata says so.
        account_id: Option<AccountId>,
        /// When that period begins.
        period_start: Option<i64>,
        /// When it ends.
        period_end: Option<i64>,
        /// Its page at Stripe.
        hosted_invoice_url: Option<String>,
        /// Why it was made, such as `subscription_cycle`.
        billing_reason: Option<String>,
        /// When it was made.
        created: i64,
    },
    /// Money went back.
    Reversal {
        /// What it had paid: an invoice (`in_…`), or else the payment of a purchase (`pi_…`).
        source: String,
        /// The charge.
        charge: String,
        /// All that has been refunded of the charge so far.
        refunded_cents: Option<i64>,
        /// The dispute.
        dispute_id: Option<String>,
        /// What is disputed.
        disputed_cents: Option<i64>,
        /// Whether the dispute was decided for us.
        dispute_won: bool,
    },
}

/// What an invoice charges at one price; negative for what it gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// The price, by which we know the plan.
    pub price_id: String,
    /// How much.
    pub amount: i64,
}

/// What was read from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// All there is to know.
    Effect(Effect),
    /// Money went back. Whether it had paid an invoice or a purchase has to be asked.
    Reversal(Reversal),
}

/// A refund or a dispute of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// The payment.
    pub payment_intent: String,
    charge: String,
    refunded_cents: Option<i64>,
    dispute_id: Option<String>,
    disputed_cents: Option<i64>,
    dispute_won: bool,
}

impl Reversal {
    /// The effect, once it is known which invoice the payment had paid, if any.
    pub fn of(self, invoice: Option<String>) -> Effect {
        Effect::Reversal {
            source: invoice.unwrap_or(self.payment_intent),
            charge: self.charge,
            refunded_cents: self.refunded_cents,
            dispute_id: self.dispute_id,
            disputed_cents: self.disputed_cents,
            dispute_won: self.dispute_won,
        }
    }
}

impl Event {
    /// Reads an event, whatever its object is.
    ///
    /// # Errors
    /// When it is no event.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidEvent> {
        let no_event = InvalidEvent { path: "the body", problem: "is no event of Stripe's" };
        let value: Value = serde_json::from_slice(body).map_err(|_| no_event)?;
        if value["object"] != "event" {
            return Err(no_event); // thin events, for example, which only point to their object
        }
        serde_json::from_value(value).map_err(|_| no_event)
    }

    /// What it means for us.
    ///
    /// # Errors
    /// When the object is not laid out as the event's type and our API version say, or contradicts itself.
    pub fn read(&self) -> Result<Reading, InvalidEvent> {
        let object = Object(&self.data.object);
        let effect = match self.kind.as_str() {
            "customer.created" | "customer.updated" => customer(object, false)?,
            "customer.deleted" => customer(object, true)?,
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => session(object)?,
            "customer.subscription.created"
            | "customer.subscription.updated"
            | "customer.subscription.paused"
            | "customer.subscription.resumed" => subscription(object, false)?,
            "customer.subscription.deleted" => subscription(object, true)?,
            "invoice.paid" => invoice(object, true)?,
            "invoice.payment_failed" => invoice(object, false)?,
            "charge.refunded" => return refund(object),
            "charge.dispute.created" | "charge.dispute.funds_withdrawn" | "charge.dispute.closed" => return dispute(object),
            _ => Effect::Ignored,
        };
        Ok(Reading::Effect(effect))
    }
}

/// An account's customer says whose it is; others are none of ours.
fn customer(object: Object<'_>, deleted: bool) -> Result<Effect, InvalidEvent> {
    let Some(account_id) = object.account("/metadata/account_id")? else { return Ok(Effect::Ignored) };
    Ok(Effect::Customer { customer: object.id("/id")?, account_id, made_by_us: true, deleted })
}

/// Somebody who pays for an account: through a link that names it, which anybody can write, so it says no more than that.
fn payer(customer: String, account_id: AccountId) -> Effect {
    Effect::Customer { customer, account_id, made_by_us: false, deleted: false }
}

fn session(object: Object<'_>) -> Result<Effect, InvalidEvent> {
    let customer = object.optional_id("/customer")?;
    match (object.text("/mode")?, object.at("/metadata/kind").and_then(Value::as_str)) {
        ("payment", Some("credits")) => purchase(object, customer),
        // Whoever subscribes through a link of ours is named in it.
        ("subscription", _) => match (customer, object.at("/client_reference_id").and_then(Value::as_str).map(str::parse)) {
            (Some(customer), Some(Ok(account_id))) => Ok(payer(customer, account_id)),
            _ => Ok(Effect::Ignored),
        },
        _ => Ok(Effect::Ignored),
    }
}

/// A purchase counts when it is paid, which for some ways of paying is days after the session is completed.
fn purchase(object: Object<'_>, customer: Option<String>) -> Result<Effect, InvalidEvent> {
    let account_id = object.account("/metadata/account_id")?.ok_or(missing("/metadata/account_id"))?;
    if object.account("/client_reference_id")?.is_some_and(|other| other != account_id) {
        return Err(InvalidEvent { path: "/client_reference_id", problem: "is not the account of the purchase" });
    }
    if !matches!(object.text("/payment_status")?, "paid" | "no_payment_required") {
        return Ok(customer.map_or(Effect::Ignored, |customer| payer(customer, account_id)));
    }
    object.in_our_currency()?;
    if object.number("/amount_subtotal")? != object.digits("/metadata/total_cents")? {
        return Err(InvalidEvent { path: "/amount_subtotal", problem: "is not the price of the purchase" });
    }
    Ok(Effect::Payment {
        session_id: object.id("/id")?,
        payment_intent: object.optional_id("/payment_intent")?,
        account_id,
        credits: object.digits("/metadata/credits")?,
        amount_cents: object.number("/amount_total")?,
        customer,
    })
}

/// Subscriptions of ours have one item, and since the version `basil` the period is the item's.
fn subscription(object: Object<'_>, deleted: bool) -> Result<Effect, InvalidEvent> {
    Ok(Effect::Subscription {
        subscription_id: object.id("/id")?,
        customer: object.id("/customer")?,
        account_id: object.account("/metadata/account_id")?,
        status: object.text("/status")?.to_owned(),
        price_id: object.id("/items/data/0/price")?,
        period_start: object.number("/items/data/0/current_period_start")?,
        period_end: object.number("/items/data/0/current_period_end")?,
        canceled_at: object.optional_number("/canceled_at")?,
        cancel_at_period_end: object.at("/cancel_at_period_end") == Some(&Value::Bool(true)),
        deleted,
    })
}

fn invoice(object: Object<'_>, paid: bool) -> Result<Effect, InvalidEvent> {
    // Null for an invoice without a subscription, absent before `basil`, where the subscription stood elsewhere.
    if object.0.get("parent").is_none() {
        return Err(missing("/parent"));
    }
    let lines = subscription_lines(object)?;
    // Not the rest of a period after a change of plans.
    let line = lines.iter().find(|line| !is_proration(**line)).copied();
    let charge =
        |line: &Object<'_>| Ok(InvoiceLine { price_id: line.id("/pricing/price_details/price")?, amount: line.number("/amount")? });
    Ok(Effect::Invoice {
        invoice_id: object.id("/id")?,
        customer: object.id("/customer")?,
        subscription_id: object.optional_id("/parent/subscription_details/subscription")?,
        paid,
        amount_due: object.number("/amount_due")?,
        amount_paid: object.number("/amount_paid")?,
        currency: object.text("/currency")?.to_owned(),
        price_id: line.map(|line| line.id("/pricing/price_details/price")).transpose()?,
        lines: lines.iter().map(charge).collect::<Result<_, _>>()?,
        total: object.number("/total")?,
        account_id: object.account("/parent/subscription_details/metadata/account_id")?,
        period_start: line.map(|line| line.number("/period/start")).transpose()?,
        period_end: line.map(|line| line.number("/period/end")).transpose()?,
        hosted_invoice_url: object.optional_text("/hosted_invoice_url")?.map(str::to_owned),
        billing_reason: object.optional_text("/billing_reason")?.map(str::to_owned),
        created: object.number("/created")?,
    })
}

/// The lines that are about a subscription. An event carries the first ones only: one that left some out cannot be reckoned with.
fn subscription_lines(invoice: Object<'_>) -> Result<Vec<Object<'_>>, InvalidEvent> {
    let lines = invoice.at("/lines/data").and_then(Value::as_array).ok_or(missing("/lines/data"))?;
    if invoice.at("/lines/has_more") == Some(&Value::Bool(true)) {
        return Err(InvalidEvent {
            path: "/lines/has_more",
            problem: "an invoice of more lines than its event tells has to be booked by hand",
        });
    }
    let of_subscription = |line: &Object<'_>| line.0["parent"]["type"] == "subscription_item_details" || is_proration(*line);
    Ok(lines.iter().map(Object).filter(of_subscription).collect())
}

/// Whether a line settles a change of plans. Stripe tells so in two places, depending on how the subscription is billed.
fn is_proration(line: Object<'_>) -> bool {
    ["/parent/subscription_item_details/proration", "/parent/invoice_item_details/proration"]
        .into_iter()
        .any(|path| line.at(path) == Some(&Value::Bool(true)))
}

fn refund(charge: Object<'_>) -> Result<Reading, InvalidEvent> {
    let Some(payment_intent) = charge.optional_id("/payment_intent")? else { return Ok(Reading::Effect(Effect::Ignored)) };
    charge.in_our_currency()?;
    Ok(Reading::Reversal(Reversal {
        payment_intent,
        charge: charge.id("/id")?,
        refunded_cents: Some(charge.number("/amount_refunded")?),
        dispute_id: None,
        disputed_cents: None,
        dispute_won: false,
    }))
}

fn dispute(dispute: Object<'_>) -> Result<Reading, InvalidEvent> {
    let Some(payment_intent) = dispute.optional_id("/payment_intent")? else { return Ok(Reading::Effect(Effect::Ignored)) };
    // An inquiry moves no money; if it becomes a dispute, `funds_withdrawn` tells.
    if dispute.text("/status")?.starts_with("warning_") {
        return Ok(Reading::Effect(Effect::Ignored));
    }
    dispute.in_our_currency()?;
    Ok(Reading::Reversal(Reversal {
        payment_intent,
        charge: dispute.id("/charge")?,
        refunded_cents: None,
        dispute_id: Some(dispute.id("/id")?),
        disputed_cents: Some(dispute.number("/amount")?),
        dispute_won: dispute.text("/status")? == "won",
    }))
}

#[cfg(test)]
mod tests;
