//! Stripe's events and their effects.
//!
//! Objects are read as far as they are used (`layout`); other fields are ignored. Errors are logged: they name fields and never contain their
//! values.

mod layout;

use oslira_domain::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::layout::{
    Charge, Customer, Dispute, DisputeStatus, Id, Invoice, Line, LineKind, List, PaidPurchase, Payment, Purchase, PurchaserMetadata,
    Session, Subscription, read,
};

/// The currency of all prices.
const CURRENCY: &str = "usd";

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
    data: Data,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Data {
    object: Value,
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

/// What an event changes, as `apply_stripe_event` in the database takes it. Amounts are cents, times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// The event changes nothing.
    Ignored,
    /// The customer of an account was created, changed or deleted.
    Customer {
        /// The customer.
        customer: String,
        /// The account.
        account_id: AccountId,
        /// Whether the backend created it for this account. Otherwise a customer paid for the account and named it.
        made_by_us: bool,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// A purchase of credits has been paid.
    Payment {
        /// The Checkout Session.
        session_id: String,
        /// The payment. None if there was nothing to pay.
        payment_intent: Option<String>,
        /// The account that bought.
        account_id: AccountId,
        /// The number of credits.
        credits: i64,
        /// The amount that was paid.
        amount_cents: i64,
        /// The account's customer.
        customer: Option<String>,
    },
    /// A subscription was created or changed.
    Subscription {
        /// The subscription.
        subscription_id: String,
        /// Its customer.
        customer: String,
        /// Its account, if its metadata names it.
        account_id: Option<AccountId>,
        /// Its status, as Stripe names it.
        status: String,
        /// The price, which determines the plan.
        price_id: String,
        /// When the current period began.
        period_start: i64,
        /// When it ends.
        period_end: i64,
        /// When it was cancelled.
        canceled_at: Option<i64>,
        /// Whether it ends with the period.
        cancel_at_period_end: bool,
        /// Whether it has ended.
        deleted: bool,
    },
    /// An invoice was paid, or its payment failed.
    Invoice {
        /// The invoice.
        invoice_id: String,
        /// Its customer.
        customer: String,
        /// Its subscription.
        subscription_id: Option<String>,
        /// Whether it was paid.
        paid: bool,
        /// The amount that was due.
        amount_due: i64,
        /// The amount that was paid.
        amount_paid: i64,
        /// Its currency.
        currency: String,
        /// The price of the period that it charges. None if it only settles a change of plans.
        price_id: Option<String>,
        /// Its lines about the subscription: whole periods and prorations.
        lines: Vec<InvoiceLine>,
        /// Its total, before the customer's credit balance is applied.
        total: i64,
        /// Its account, if the subscription's metadata names it.
        account_id: Option<AccountId>,
        /// When that period begins.
        period_start: Option<i64>,
        /// When it ends.
        period_end: Option<i64>,
        /// Its page at Stripe.
        hosted_invoice_url: Option<String>,
        /// Why it was created, such as `subscription_cycle`.
        billing_reason: Option<String>,
        /// When it was created.
        created: i64,
    },
    /// A payment was refunded or disputed.
    Reversal {
        /// What had been paid: an invoice (`in_…`), or else the payment of a purchase (`pi_…`).
        source: String,
        /// The charge.
        charge: String,
        /// The amount of the charge that has been refunded so far.
        refunded_cents: Option<i64>,
        /// The dispute.
        dispute_id: Option<String>,
        /// The disputed amount.
        disputed_cents: Option<i64>,
        /// Whether the dispute was won.
        dispute_won: bool,
    },
}

/// What an invoice charges at one price. Negative for a credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// The price, which determines the plan.
    pub price_id: String,
    /// The amount.
    pub amount: i64,
}

/// What an event contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Its effect.
    Effect(Effect),
    /// A reversal. Stripe has to be queried for whether the payment had paid an invoice or a purchase.
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
    /// Returns the effect of a reversal of a payment that had paid this invoice, if any.
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

    /// Reads the event's object.
    ///
    /// # Errors
    /// Fails when the object does not have the layout of the event's type and our API version, or contradicts itself.
    pub fn read(&self) -> Result<Reading, InvalidEvent> {
        let object = &self.data.object;
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

/// A customer that was created for an account names it in its metadata. Other customers are ignored.
fn customer(object: &Value, deleted: bool) -> Result<Effect, InvalidEvent> {
    let Customer { id, metadata } = read(object)?;
    let account_id = metadata.and_then(|metadata| metadata.account_id);
    Ok(account_id.map_or(Effect::Ignored, |account_id| Effect::Customer { customer: id.0, account_id, made_by_us: true, deleted }))
}

/// A customer who pays for an account through a link that names the account. Anyone can write such a link, so that it proves nothing else.
fn payer(customer: Id, account_id: AccountId) -> Effect {
    Effect::Customer { customer: customer.0, account_id, made_by_us: false, deleted: false }
}

fn session(object: &Value) -> Result<Effect, InvalidEvent> {
    let session: Session = read(object)?;
    match (session.mode.as_str(), session.metadata.and_then(|metadata| metadata.kind).as_deref()) {
        ("payment", Some("credits")) => purchase(object, session.customer),
        // A link to subscribe names the account.
        ("subscription", _) => match (session.customer, session.client_reference_id.as_deref().map(str::parse)) {
            (Some(customer), Some(Ok(account_id))) => Ok(payer(customer, account_id)),
            _ => Ok(Effect::Ignored),
        },
        _ => Ok(Effect::Ignored),
    }
}

/// A purchase counts when it is paid, which for some payment methods is days after the session is completed.
fn purchase(object: &Value, customer: Option<Id>) -> Result<Effect, InvalidEvent> {
    let Purchase { client_reference_id, metadata: PurchaserMetadata { account_id }, payment_status } = read(object)?;
    if client_reference_id.is_some_and(|other| other != account_id) {
        return Err(InvalidEvent::new("/client_reference_id", "is not the account of the purchase"));
    }
    if !matches!(payment_status.as_str(), "paid" | "no_payment_required") {
        return Ok(customer.map_or(Effect::Ignored, |customer| payer(customer, account_id)));
    }
    let paid: PaidPurchase = read(object)?;
    ensure_our_currency(&paid.currency)?;
    if paid.amount_subtotal != paid.metadata.total_cents {
        return Err(InvalidEvent::new("/amount_subtotal", "is not the price of the purchase"));
    }
    Ok(Effect::Payment {
        session_id: paid.id.0,
        payment_intent: paid.payment_intent.map(|id| id.0),
        account_id,
        credits: paid.metadata.credits,
        amount_cents: paid.amount_total,
        customer: customer.map(|id| id.0),
    })
}

fn subscription(object: &Value, deleted: bool) -> Result<Effect, InvalidEvent> {
    let subscription: Subscription = read(object)?;
    let item = subscription.items.data.into_iter().next().ok_or_else(|| InvalidEvent::missing("/items/data/0".to_owned()))?;
    Ok(Effect::Subscription {
        subscription_id: subscription.id.0,
        customer: subscription.customer.0,
        account_id: subscription.metadata.and_then(|metadata| metadata.account_id),
        status: subscription.status,
        price_id: item.price.0,
        period_start: item.current_period_start,
        period_end: item.current_period_end,
        canceled_at: subscription.canceled_at,
        cancel_at_period_end: subscription.cancel_at_period_end == Some(true),
        deleted,
    })
}

fn invoice(object: &Value, paid: bool) -> Result<Effect, InvalidEvent> {
    let invoice: Invoice = read(object)?;
    let lines = subscription_lines(&invoice.lines)?;
    // The period that the invoice charges, and not the rest of one after a change of plans.
    let charged = lines.iter().find(|(_, is_proration)| !is_proration).map(|(line, _)| line);
    let period = charged.map(|line| line.period.ok_or_else(|| InvalidEvent::missing("/lines/data/period".to_owned()))).transpose()?;
    let details = invoice.parent.and_then(|parent| parent.subscription_details);
    let (subscription, metadata) = details.map_or((None, None), |details| (details.subscription, details.metadata));
    Ok(Effect::Invoice {
        invoice_id: invoice.id.0,
        customer: invoice.customer.0,
        subscription_id: subscription.map(|id| id.0),
        paid,
        amount_due: invoice.amount_due,
        amount_paid: invoice.amount_paid,
        currency: invoice.currency,
        price_id: charged.map(|line| line.pricing.price_details.price.0.clone()),
        period_start: period.map(|period| period.start),
        period_end: period.map(|period| period.end),
        lines: lines
            .into_iter()
            .map(|(line, _)| InvoiceLine { price_id: line.pricing.price_details.price.0, amount: line.amount })
            .collect(),
        total: invoice.total,
        account_id: metadata.and_then(|metadata| metadata.account_id),
        hosted_invoice_url: invoice.hosted_invoice_url,
        billing_reason: invoice.billing_reason,
        created: invoice.created,
    })
}

/// Returns the lines that are about a subscription, each with whether it is a proration. An event contains the first lines only: one that left
/// some out cannot be applied.
fn subscription_lines(lines: &List<Value>) -> Result<Vec<(Line, bool)>, InvalidEvent> {
    if lines.has_more == Some(true) {
        return Err(InvalidEvent::new("/lines/has_more", "an invoice with more lines than its event has to be applied by hand"));
    }
    let mut found = Vec::new();
    for (index, line) in lines.data.iter().enumerate() {
        let within = |error: InvalidEvent| InvalidEvent { path: format!("/lines/data/{index}{}", error.path), ..error };
        let LineKind { parent } = read(line).map_err(within)?;
        let Some(parent) = parent else { continue };
        let is_proration = parent.is_proration();
        if parent.kind.as_deref() == Some("subscription_item_details") || is_proration {
            found.push((read(line).map_err(within)?, is_proration));
        }
    }
    Ok(found)
}

fn refund(object: &Value) -> Result<Reading, InvalidEvent> {
    let Payment { payment_intent: Some(payment_intent) } = read(object)? else { return Ok(Reading::Effect(Effect::Ignored)) };
    let charge: Charge = read(object)?;
    ensure_our_currency(&charge.currency)?;
    Ok(Reading::Reversal(Reversal {
        payment_intent: payment_intent.0,
        charge: charge.id.0,
        refunded_cents: Some(charge.amount_refunded),
        dispute_id: None,
        disputed_cents: None,
        dispute_won: false,
    }))
}

fn dispute(object: &Value) -> Result<Reading, InvalidEvent> {
    let Payment { payment_intent: Some(payment_intent) } = read(object)? else { return Ok(Reading::Effect(Effect::Ignored)) };
    let DisputeStatus { status } = read(object)?;
    // An inquiry moves no money. If it becomes a dispute, `funds_withdrawn` reports it.
    if status.starts_with("warning_") {
        return Ok(Reading::Effect(Effect::Ignored));
    }
    let dispute: Dispute = read(object)?;
    ensure_our_currency(&dispute.currency)?;
    Ok(Reading::Reversal(Reversal {
        payment_intent: payment_intent.0,
        charge: dispute.charge.0,
        refunded_cents: None,
        dispute_id: Some(dispute.id.0),
        disputed_cents: Some(dispute.amount),
        dispute_won: status == "won",
    }))
}

fn ensure_our_currency(currency: &str) -> Result<(), InvalidEvent> {
    if currency == CURRENCY { Ok(()) } else { Err(InvalidEvent::new("/currency", "is not the currency of our prices")) }
}

#[cfg(test)]
mod tests;
