//! Refunds and disputes.

use super::*;

fn charge() -> Value {
    json!({
        "id": "ch_1", "object": "charge", "amount": 23_038, "amount_captured": 23_038, "amount_refunded": 10_000, "currency": "usd",
        "customer": "cus_1", "metadata": {}, "payment_intent": "pi_1", "refunded": false
    })
}

fn dispute() -> Value {
    json!({
        "id": "du_1", "object": "dispute", "amount": 23_038, "charge": "ch_1", "currency": "usd", "payment_intent": "pi_1",
        "reason": "fraudulent", "status": "needs_response"
    })
}

fn refund() -> Value {
    json!({
        "id": "re_1", "object": "refund", "amount": 9215, "charge": "ch_1", "currency": "usd", "payment_intent": "pi_1",
        "status": "failed", "failure_reason": "expired_or_canceled_card"
    })
}

fn reversal(kind: &str, object: &Value) -> Reversal {
    match event(kind, object).read() {
        Ok(Reading::Reversal(reversal)) => reversal,
        other => panic!("{other:?}"),
    }
}

/// Returns what a reversal changes, as the database takes it.
fn change(kind: &str, object: &Value) -> Value {
    serde_json::to_value(reversal(kind, object).of(None)).unwrap()
}

#[test]
fn a_reversal_needs_the_invoice_of_its_payment() {
    let refunded = reversal("charge.refunded", &charge());
    assert_eq!(refunded.payment_intent, "pi_1");
    let of_invoice = serde_json::to_value(refunded.of(Some("in_1".to_owned()))).unwrap();
    assert_eq!((&of_invoice["source"], &of_invoice["payment"]), (&json!("in_1"), &json!("pi_1")));
    let expected = json!({
        "kind": "reversal", "source": "pi_1", "payment": "pi_1", "currency": "usd", "change": "refunded", "total_cents": 10_000,
        "step_cents": null
    });
    assert_eq!(change("charge.refunded", &charge()), expected);
    let mut event = event("charge.refunded", &charge());
    event.data.previous_attributes = json!({ "amount_refunded": 4000, "refunded": false });
    let Ok(Reading::Reversal(Reversal { change: Change::Refunded { step_cents, .. }, .. })) = event.read() else { panic!("no refund") };
    assert_eq!(step_cents, Some(6000));
}

#[test]
fn a_refund_that_fails_is_known_by_each_of_its_events() {
    let expected = json!({
        "kind": "reversal", "source": "pi_1", "payment": "pi_1", "currency": "usd", "change": "refund", "refund_id": "re_1", "cents": 9215,
        "failed": true
    });
    for kind in ["refund.failed", "refund.updated", "charge.refund.updated"] {
        assert_eq!(change(kind, &refund()), expected, "{kind}");
    }
    for (status, failed) in [("canceled", true), ("pending", false), ("succeeded", false), ("requires_action", false)] {
        assert_eq!(change("refund.created", &with(&refund(), &[("/status", json!(status))]))["failed"], json!(failed), "{status}");
    }
}

/// Every event of a payment has its payment intent, but not always its charge.
#[test]
fn all_reversals_of_a_payment_have_one_key() {
    let nameless = with(&refund(), &[("/charge", Value::Null)]);
    let expanded = with(&dispute(), &[("/charge", charge()), ("/payment_intent", json!({"id": "pi_1"}))]);
    for (kind, object) in
        [("charge.refunded", charge()), ("refund.created", nameless), ("refund.created", refund()), ("charge.dispute.created", expanded)]
    {
        assert_eq!(change(kind, &object)["payment"], "pi_1", "{kind} {object}");
    }
    for (kind, object) in [("charge.refunded", charge()), ("refund.failed", refund()), ("charge.dispute.created", dispute())] {
        let other = with(&object, &[("/payment_intent", Value::Null)]);
        assert_eq!(effect(kind, &other), Ok(Effect::Ignored), "{kind}: ours always have one");
    }
}

/// The database knows whether a payment in another currency is ours.
#[test]
fn a_reversal_has_the_currency_of_its_amounts() {
    for (kind, object) in [("charge.refunded", charge()), ("refund.failed", refund()), ("charge.dispute.created", dispute())] {
        for (currency, expected) in [("eur", "eur"), ("jpy", "jpy"), ("USD", "usd")] {
            assert_eq!(change(kind, &with(&object, &[("/currency", json!(currency))]))["currency"], expected, "{kind}");
        }
    }
}

#[test]
fn the_status_of_a_dispute_says_who_has_the_money() {
    let expected = json!({
        "kind": "reversal", "source": "pi_1", "payment": "pi_1", "currency": "usd", "change": "dispute", "dispute_id": "du_1",
        "cents": 23_038, "state": "open"
    });
    assert_eq!(change("charge.dispute.created", &dispute()), expected);
    for (kind, status, state) in [
        ("updated", "under_review", "open"),
        ("funds_withdrawn", "needs_response", "open"),
        ("funds_reinstated", "won", "won"),
        ("closed", "won", "won"),
        ("closed", "lost", "lost"),
        // A decision against us that is appealed.
        ("updated", "appeal_needs_response", "lost"),
        ("funds_withdrawn", "appeal_under_review", "lost"),
        // An inquiry moves no money, nor does what the card network prevented.
        ("created", "warning_needs_response", "won"),
        ("updated", "warning_under_review", "won"),
        ("closed", "warning_closed", "won"),
        ("closed", "prevented", "won"),
        // One that Stripe adds is an error if the payment is ours.
        ("updated", "in_arbitration", "unknown"),
        ("updated", "", "unknown"),
    ] {
        let read = change(&format!("charge.dispute.{kind}"), &with(&dispute(), &[("/status", json!(status))]));
        assert_eq!(read["state"], state, "{kind} {status}");
    }
    let blocked = json!({ "type": "card", "card": { "brand": "visa", "case_type": "block", "network_reason_code": null } });
    let blocked = with(&dispute(), &[("/payment_method_details", blocked)]);
    assert_eq!(change("charge.dispute.created", &blocked)["state"], "won");
    assert!(event("charge.dispute.created", &without(&dispute(), "/amount")).read().is_err());
}
