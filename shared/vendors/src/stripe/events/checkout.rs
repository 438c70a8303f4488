//! Customers, and Checkout Sessions that are completed or paid.

use oslira_domain::AccountId;
use serde_json::Value;

use super::effect::Effect;
use super::layout::{Customer, Id, NamedAccount, PaidPurchase, Purchase, Session, read};
use super::{CURRENCY, InvalidEvent};

/// A customer that was created for an account names it in its metadata. Other customers are ignored.
pub(super) fn customer(object: &Value, deleted: bool) -> Result<Effect, InvalidEvent> {
    let Customer { id, metadata } = read(object)?;
    let NamedAccount { account_id, .. } = metadata.unwrap_or_default().into();
    Ok(account_id.map_or(Effect::Ignored, |account_id| Effect::Customer { customer: id.0, account_id, made_by_us: true, deleted }))
}

/// A customer who pays for an account through a link that names the account. Anyone can write such a link, so that it proves nothing else.
fn payer(customer: Id, account_id: AccountId) -> Effect {
    Effect::Customer { customer: customer.0, account_id, made_by_us: false, deleted: false }
}

pub(super) fn session(object: &Value) -> Result<Effect, InvalidEvent> {
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

/// A purchase counts when it is paid, which for some payment methods is days after the session is completed. One without an account of our
/// form is another system's. Stripe may have presented the price in the payer's currency; the price itself is in ours.
fn purchase(object: &Value, customer: Option<Id>) -> Result<Effect, InvalidEvent> {
    let Purchase { client_reference_id, metadata, payment_status } = read(object)?;
    let NamedAccount { account_id: Some(account_id), .. } = metadata.into() else { return Ok(Effect::Ignored) };
    if client_reference_id.is_some_and(|other| other != account_id) {
        return Err(InvalidEvent::new("/client_reference_id", "is not the account of the purchase"));
    }
    if !matches!(payment_status.as_str(), "paid" | "no_payment_required") {
        return Ok(customer.map_or(Effect::Ignored, |customer| payer(customer, account_id)));
    }
    let paid: PaidPurchase = read(object)?;
    let (priced_in, price) = paid.price();
    let priced_in = priced_in.to_ascii_lowercase();
    // The database rejects the price of an account of ours in another currency: here it may be another system's.
    if priced_in == CURRENCY && price.is_some_and(|price| price != paid.metadata.total_cents) {
        return Err(InvalidEvent::new("/amount_subtotal", "is not the price of the purchase"));
    }
    Ok(Effect::Payment {
        session_id: paid.id.0,
        payment_intent: paid.payment_intent.map(|id| id.0),
        account_id,
        credits: paid.metadata.credits,
        amount_cents: paid.amount_total,
        currency: paid.currency.to_ascii_lowercase(),
        priced_in,
        customer: customer.map(|id| id.0),
    })
}
