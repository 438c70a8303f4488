//! Refunds and disputes.

use serde_json::Value;

use super::InvalidEvent;
use super::effect::{Change, DisputeState, Effect, Reading, Reversal};
use super::layout::{Charge, Dispute, Id, Payment, Refund, read};

const IGNORED: Reading = Reading::Effect(Effect::Ignored);

/// Some of a charge was refunded. The event reports the sum of all refunds and, in its previous attributes, the sum before this one.
pub(super) fn refunded(object: &Value, previous: &Value) -> Result<Reading, InvalidEvent> {
    let Some(payment) = payment(object)? else { return Ok(IGNORED) };
    let Charge { amount_refunded } = read(object)?;
    let step_cents = previous["amount_refunded"].as_i64().map(|before| amount_refunded - before);
    Ok(payment.has(Change::Refunded { total_cents: amount_refunded, step_cents }))
}

/// A refund was created or changed. A pending one counts: its money has left us.
pub(super) fn refund(object: &Value) -> Result<Reading, InvalidEvent> {
    let Some(payment) = payment(object)? else { return Ok(IGNORED) };
    let refund: Refund = read(object)?;
    let failed = matches!(refund.status.as_deref(), Some("failed" | "canceled"));
    Ok(payment.has(Change::Refund { refund_id: refund.id.0, cents: refund.amount, failed }))
}

/// A dispute was opened, changed or decided.
///
/// An inquiry (`warning_…`) moves no money; if it becomes a dispute, further events report it. Neither does a dispute that the card network
/// prevented or blocked: the payer got a refund instead, which has events of its own. While a decision is appealed, the payer has the money.
pub(super) fn dispute(object: &Value) -> Result<Reading, InvalidEvent> {
    let Some(payment) = payment(object)? else { return Ok(IGNORED) };
    let dispute: Dispute = read(object)?;
    let state = match dispute.status.as_str() {
        "won" => DisputeState::Won,
        _ if dispute.moves_no_money() => DisputeState::Won,
        "lost" | "appeal_needs_response" | "appeal_under_review" => DisputeState::Lost,
        "needs_response" | "under_review" => DisputeState::Open,
        _ => DisputeState::Unknown,
    };
    Ok(payment.has(Change::Dispute { dispute_id: dispute.id.0, cents: dispute.amount, state }))
}

/// The payment that an object is about.
struct Reversed {
    payment_intent: String,
    currency: String,
}

impl Reversed {
    fn has(self, change: Change) -> Reading {
        Reading::Reversal(Reversal { payment_intent: self.payment_intent, currency: self.currency, change })
    }
}

/// Returns the payment that an object is about. None if it has none, which payments of ours always have.
fn payment(object: &Value) -> Result<Option<Reversed>, InvalidEvent> {
    let Payment { payment_intent, currency } = read(object)?;
    Ok(payment_intent.map(|Id(payment_intent)| Reversed { payment_intent, currency: currency.to_ascii_lowercase() }))
}
