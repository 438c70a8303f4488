//! Subscriptions and invoices.

use serde_json::Value;

use super::InvalidEvent;
use super::effect::{BilledItem, Effect, InvoiceStatus, Reading};
use super::layout::{Invoice, Line, LineKind, List, NamedAccount, Subscription, read};

pub(super) fn subscription(object: &Value, deleted: bool) -> Result<Effect, InvalidEvent> {
    let subscription: Subscription = read(object)?;
    if subscription.items.data.is_empty() {
        return Err(InvalidEvent::missing("/items/data/0".to_owned()));
    }
    let NamedAccount { account_id, names_other_account } = subscription.metadata.unwrap_or_default().into();
    let items = subscription.items.data.into_iter().map(|item| BilledItem {
        price_id: item.price.0,
        amount: None,
        period_start: Some(item.current_period_start),
        period_end: Some(item.current_period_end),
    });
    Ok(Effect::Subscription {
        subscription_id: subscription.id.0,
        customer: subscription.customer.map(|id| id.0),
        account_id,
        names_other_account,
        status: subscription.status,
        items: items.collect(),
        canceled_at: subscription.canceled_at,
        cancel_at: subscription.cancel_at,
        cancel_at_period_end: subscription.cancel_at_period_end == Some(true),
        deleted,
    })
}

/// An invoice counts by what is settled of it, however it was paid: by card, from the customer's balance, or outside of Stripe.
pub(super) fn invoice(object: &Value, status: InvoiceStatus) -> Result<Reading, InvalidEvent> {
    let invoice: Invoice = read(object)?;
    let lines = subscription_lines(&invoice.lines)?;
    let details = invoice.parent.and_then(|parent| parent.subscription_details);
    let (subscription, metadata) = details.map_or((None, None), |details| (details.subscription, details.metadata));
    let NamedAccount { account_id, names_other_account } = metadata.unwrap_or_default().into();
    let (invoice_id, customer) = (invoice.id.0, invoice.customer.map(|id| id.0));
    let credit_notes = invoice.pre_payment_credit_notes_amount.unwrap_or_default();
    // Credit notes lower the amount that is due, too.
    let from_balance = (invoice.total - credit_notes - invoice.amount_due).max(0);
    let is_open_question = status == InvoiceStatus::Paid && from_balance > 0 && !lines.is_empty();
    let effect = Effect::Invoice {
        invoice_id: invoice_id.clone(),
        customer: customer.clone(),
        subscription_id: subscription.map(|id| id.0),
        status,
        amount_due: invoice.amount_due,
        amount_paid: invoice.amount_paid,
        credit_notes,
        from_balance,
        returned_earlier: (!is_open_question).then_some(0),
        currency: invoice.currency.to_ascii_lowercase(),
        lines,
        lines_omitted: invoice.lines.has_more == Some(true),
        total: invoice.total,
        account_id,
        names_other_account,
        hosted_invoice_url: invoice.hosted_invoice_url,
        billing_reason: invoice.billing_reason,
        created: invoice.created,
    };
    Ok(match customer {
        Some(customer) if is_open_question => Reading::FromBalance { customer, invoice_id, effect },
        _ => Reading::Effect(effect),
    })
}

/// Returns the lines that are about a subscription and have a price.
fn subscription_lines(lines: &List<Value>) -> Result<Vec<BilledItem>, InvalidEvent> {
    let mut found = Vec::new();
    for (index, line) in lines.data.iter().enumerate() {
        let within = |error: InvalidEvent| InvalidEvent { path: format!("/lines/data/{index}{}", error.path), ..error };
        let LineKind { parent } = read(line).map_err(within)?;
        let Some(parent) = parent else { continue };
        let is_proration = parent.is_proration();
        if parent.kind.as_deref() != Some("subscription_item_details") && !is_proration {
            continue;
        }
        let Line { amount, pricing, period } = read(line).map_err(within)?;
        let Some(price) = pricing.and_then(|pricing| pricing.price_details).map(|details| details.price) else { continue };
        // The rest of a period after a change of plans is not a period of its own.
        let period = match period {
            _ if is_proration => None,
            Some(period) => Some(period),
            None => return Err(InvalidEvent::missing(format!("/lines/data/{index}/period"))),
        };
        found.push(BilledItem {
            price_id: price.0,
            amount: Some(amount),
            period_start: period.map(|period| period.start),
            period_end: period.map(|period| period.end),
        });
    }
    Ok(found)
}
