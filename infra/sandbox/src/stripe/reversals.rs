//! Refunds and disputes.

use serde_json::{Value, json};

use super::form::Params;
use super::ledger::{Ledger, id, now, number, text};
use super::problem::Problem;

/// The time in which a seller responds to a dispute, in seconds.
const ANSWER_TIME: i64 = 9 * 24 * 3600;

/// Returns the successful charge that a parameter names, by its id or its payment intent's.
pub(super) fn charge_of(ledger: &Ledger, source: &str, param: &str) -> Result<Value, Problem> {
    let kind = if param == "payment_intent" { "payment_intent" } else { "charge" };
    let object = ledger.referenced(kind, source, param)?;
    let charge = if kind == "charge" { Some(object) } else { ledger.find("charge", text(&object, "latest_charge")).cloned() };
    let charge = charge.ok_or_else(|| {
        let message = format!("The PaymentIntent {source} has no successful charge to refund.");
        Problem::invalid(message, Some("payment_intent_unexpected_state"), Some(param))
    })?;
    if charge["status"] == "succeeded" {
        Ok(charge)
    } else {
        Err(Problem::invalid(format!("Charge {} has not succeeded.", text(&charge, "id")), None, Some(param)))
    }
}

/// Refunds a part or all of a charge.
pub(super) fn refund(
    ledger: &mut Ledger,
    charge: &Value,
    cents: Option<i64>,
    reason: Option<&str>,
    metadata: &Value,
) -> Result<Value, Problem> {
    let charge_id = text(charge, "id");
    let left = number(charge, "amount_captured") - number(charge, "amount_refunded");
    if left == 0 {
        let message = format!("Charge {charge_id} has already been refunded.");
        return Err(Problem::invalid(message, Some("charge_already_refunded"), None));
    }
    if charge["disputed"] == true {
        let message = format!("Charge {charge_id} has been charged back and cannot be refunded.");
        return Err(Problem::invalid(message, Some("charge_disputed"), None));
    }
    let cents = cents.unwrap_or(left);
    if !(1..=left).contains(&cents) {
        let message = format!("Refund amount ({cents}) is not between 1 and the unrefunded amount of the charge ({left}).");
        return Err(Problem::invalid(message, None, Some("amount")));
    }
    let refund = ledger.insert(json!({
        "id": id("re"), "object": "refund", "amount": cents, "balance_transaction": id("txn"), "charge": charge_id, "created": now(),
        "currency": charge["currency"], "customer": charge["customer"],
        "destination_details": {"card": {"reference": null, "reference_status": "pending", "reference_type": "acquirer_reference_number",
            "type": "refund"}, "type": "card"},
        "failure_balance_transaction": null, "metadata": metadata, "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"], "pending_reason": null, "reason": reason, "receipt_number": null,
        "source_transfer_reversal": null, "status": "succeeded", "transfer_reversal": null,
    }));
    let refunded = number(charge, "amount_refunded") + cents;
    let previous = ledger.set(charge_id, &json!({"amount_refunded": refunded, "refunded": cents == left}));
    ledger.emit("charge.refunded", charge_id, Some(previous));
    ledger.emit("refund.created", &refund, None);
    ledger.get("refund", &refund)
}

/// `POST /v1/refunds`.
pub(super) fn create_refund(ledger: &mut Ledger, _: &str, params: &Params) -> Result<Value, Problem> {
    params.only(&["payment_intent", "charge", "amount", "reason", "metadata/*"])?;
    let (source, param) = match (params.text("/payment_intent")?, params.text("/charge")?) {
        (Some(intent), _) => (intent, "payment_intent"),
        (None, Some(charge)) => (charge, "charge"),
        (None, None) => {
            return Err(Problem::invalid("Specify one of: payment_intent, charge.", Some("parameter_missing"), None));
        }
    };
    let cents = params.integer("/amount", 1, i64::MAX)?;
    let reason = params.one_of("/reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
    let mut metadata = json!({});
    params.metadata("/metadata", &mut metadata)?;
    let charge = charge_of(ledger, source, param)?;
    refund(ledger, &charge, cents, reason, &metadata)
}

/// Fails a refund: the money comes back, and the charge counts as refunded by so much less.
pub(super) fn fail_refund(ledger: &mut Ledger, refund: &str) -> Result<Value, Problem> {
    let object = ledger.get("refund", refund)?;
    if object["status"] == "failed" {
        return Err(Problem::invalid(format!("The refund {refund} has already failed."), None, None));
    }
    let failed = json!({"status": "failed", "failure_reason": "expired_or_canceled_card", "failure_balance_transaction": id("txn")});
    let previous = ledger.set(refund, &failed);
    let charge = text(&object, "charge");
    let refunded = number(&ledger.get("charge", charge)?, "amount_refunded") - number(&object, "amount");
    ledger.set(charge, &json!({"amount_refunded": refunded, "refunded": false}));
    for kind in ["refund.updated", "charge.refund.updated"] {
        ledger.emit(kind, refund, Some(previous.clone()));
    }
    ledger.emit("refund.failed", refund, None);
    ledger.get("refund", refund)
}

/// What a dispute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CaseType {
    /// Withdraws the money.
    #[default]
    Chargeback,
    /// A question of the card network, which moves no money.
    Inquiry,
    /// Prevented by the card network before any money moved.
    Block,
}

/// Opens a dispute, which withdraws the money if it is a chargeback.
pub(super) fn dispute(
    ledger: &mut Ledger,
    charge: &Value,
    cents: Option<i64>,
    reason: Option<&str>,
    case_type: CaseType,
) -> Result<Value, Problem> {
    let charge_id = text(charge, "id");
    if charge["disputed"] == true {
        return Err(Problem::invalid(format!("Charge {charge_id} is already disputed."), None, None));
    }
    // The payer disputes what the statement shows.
    let presented = &charge["presentment_details"];
    let (amount, currency) = if presented.is_null() {
        (number(charge, "amount"), &charge["currency"])
    } else {
        (number(presented, "presentment_amount"), &presented["presentment_currency"])
    };
    let cents = cents.unwrap_or(amount);
    if !(1..=amount).contains(&cents) {
        return Err(Problem::invalid(format!("amount is 1 to {amount}"), None, Some("amount")));
    }
    let withdrawal =
        movement(charge, -(cents * number(charge, "amount") / amount), 1500, &format!("Chargeback withdrawal for {charge_id}"));
    let (case_type, status, transactions) = match case_type {
        CaseType::Chargeback => ("chargeback", "needs_response", json!([withdrawal])),
        CaseType::Inquiry => ("inquiry", "warning_needs_response", json!([])),
        CaseType::Block => ("block", "prevented", json!([])),
    };
    let moves_money = case_type == "chargeback";
    let dispute = ledger.insert(json!({
        "id": id("du"), "object": "dispute", "amount": cents, "balance_transactions": transactions, "charge": charge_id, "created": now(),
        "currency": currency, "enhanced_eligibility_types": [], "evidence": evidence(),
        "evidence_details": {"due_by": now() + ANSWER_TIME, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false,
            "submission_count": 0, "submission_method": "not_submitted"},
        "is_charge_refundable": !moves_money, "livemode": false, "metadata": {}, "payment_intent": charge["payment_intent"],
        "payment_method_details": {"card": {"brand": "visa", "case_type": case_type, "network": "visa", "network_reason_code": "10.4"}, "type": "card"},
        "reason": reason.unwrap_or("fraudulent"), "status": status,
    }));
    if moves_money {
        ledger.set(charge_id, &json!({"disputed": true}));
    }
    ledger.emit("charge.dispute.created", &dispute, None);
    if moves_money {
        ledger.emit("charge.dispute.funds_withdrawn", &dispute, None);
    }
    ledger.get("dispute", &dispute)
}

/// Decides a dispute. If it is won, the money comes back.
pub(super) fn close_dispute(ledger: &mut Ledger, dispute: &str, won: bool) -> Result<Value, Problem> {
    let object = ledger.get("dispute", dispute)?;
    if !matches!(text(&object, "status"), "needs_response" | "under_review") {
        return Err(Problem::invalid(format!("The dispute {dispute} is {}.", text(&object, "status")), None, None));
    }
    let charge = ledger.get("charge", text(&object, "charge"))?;
    ledger.change(dispute, |stored| {
        stored["status"] = json!(if won { "won" } else { "lost" });
        if let (true, Some(transactions)) = (won, stored["balance_transactions"].as_array_mut()) {
            let description = format!("Chargeback reversal for {}", text(&charge, "id"));
            let withdrawn = transactions.first().map_or(0, |withdrawal| number(withdrawal, "amount"));
            transactions.push(movement(&charge, -withdrawn, 0, &description));
        }
    });
    if won {
        ledger.set(text(&charge, "id"), &json!({"disputed": false}));
        ledger.emit("charge.dispute.funds_reinstated", dispute, None);
    }
    ledger.emit("charge.dispute.closed", dispute, None);
    ledger.get("dispute", dispute)
}

/// Returns the balance transaction of a dispute.
fn movement(charge: &Value, cents: i64, fee: i64, description: &str) -> Value {
    let fees = if fee == 0 {
        json!([])
    } else {
        json!([{"amount": fee, "application": null, "currency": "usd", "description": "Dispute fee", "type": "stripe_fee"}])
    };
    json!({"id": id("txn"), "object": "balance_transaction", "amount": cents, "available_on": now(), "balance_type": "payments",
        "created": now(), "currency": charge["currency"], "description": description, "exchange_rate": null, "fee": fee, "fee_details": fees,
        "net": cents - fee, "reporting_category": "dispute", "source": null, "status": "available", "type": "adjustment"})
}

fn evidence() -> Value {
    const FIELDS: [&str; 25] = [
        "access_activity_log",
        "billing_address",
        "cancellation_policy",
        "cancellation_policy_disclosure",
        "cancellation_rebuttal",
        "customer_communication",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "customer_signature",
        "duplicate_charge_documentation",
        "duplicate_charge_explanation",
        "duplicate_charge_id",
        "product_description",
        "receipt",
        "refund_policy",
        "refund_policy_disclosure",
        "refund_refusal_explanation",
        "service_date",
        "service_documentation",
        "shipping_address",
        "shipping_carrier",
        "shipping_date",
        "shipping_documentation",
        "shipping_tracking_number",
    ];
    let mut evidence = json!({"enhanced_evidence": {}, "uncategorized_file": null, "uncategorized_text": null});
    for field in FIELDS {
        evidence[field] = Value::Null;
    }
    evidence
}
