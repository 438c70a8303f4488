//! Refunds and disputes.

use serde_json::Value;

use super::effect::{Change, DisputeState, Effect, Reading, Reversal};
use super::layout::{Charge, Dispute, DisputeKind, Id, Payment, Refund, read};
use super::{CURRENCY, InvalidEvent};

const IGNORED: Reading = Reading::Effect(Effect::Ignored);

/// Some of a charge was refunded. The event reports the sum of all refunds and, in its previous attributes, the sum before this one.
pub(super) fn refunded(object: &Value, previous: &Value) -> Result<Reading, InvalidEvent> {
    let Some(payment_intent) = our_payment(object)? else { return Ok(IGNORED) };
    let Charge { id, amount_refunded } = read(object)?;
    let step_cents = previous["amount_refunded"].as_i64().map(|before| amount_refunded - before);
    let change = Change::Refunded { total_cents: amount_refunded, step_cents };
    Ok(Reading::Reversal(Reversal { payment_intent, charge: id.0, change }))
}

/// A refund was created or changed. A pending one counts: its money has left us.
pub(super) fn refund(object: &Value) -> Result<Reading, InvalidEvent> {
    let Some(payment_intent) = our_payment(object)? else { return Ok(IGNORED) };
    let refund: Refund = read(object)?;
    let failed = matches!(refund.status.as_deref(), Some("failed" | "canceled"));
    Ok(Reading::Reversal(Reversal {
        charge: refund.charge.map_or_else(|| payment_intent.clone(), |id| id.0),
        payment_intent,
        change: Change::Refund { refund_id: refund.id.0, cents: refund.amount, failed },
    }))
}

/// A dispute was opened, changed or decided.
///
/// An inquiry (`warning_…`) moves no money; if it becomes a dispute, further events report it. Neither does a dispute that the card network
/// prevented or blocked: the payer got a refund instead, which has events of its own.
pub(super) fn dispute(object: &Value, closed: bool) -> Result<Reading, InvalidEvent> {
    let Some(payment_intent) = our_payment(object)? else { return Ok(IGNORED) };
    let kind: DisputeKind = read(object)?;
    let state = match kind.status.as_str() {
        // One that had been open is decided by this.
        _ if kind.moves_no_money() && closed => DisputeState::Won,
        _ if kind.moves_no_money() => return Ok(IGNORED),
        "won" => DisputeState::Won,
        "lost" => DisputeState::Lost,
        _ => DisputeState::Open,
    };
    let dispute: Dispute = read(object)?;
    let change = Change::Dispute { dispute_id: dispute.id.0, cents: dispute.amount, state };
    Ok(Reading::Reversal(Reversal { payment_intent, charge: dispute.charge.0, change }))
}

/// Returns the payment that an object is about, unless it has none or is in another currency.
fn our_payment(object: &Value) -> Result<Option<String>, InvalidEvent> {
    let Payment { payment_intent: Some(Id(payment_intent)), currency } = read(object)? else { return Ok(None) };
    Ok((currency == CURRENCY).then_some(payment_intent))
}
