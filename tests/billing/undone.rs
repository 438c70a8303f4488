//! Reversals that are undone, or that move no money: refunds that fail, and disputes that the card network prevents.

use std::sync::Arc;

use super::chargebacks::{dispute, payment, refund};
use crate::harness::{Queue, Value, World, json, stack_test};

#[stack_test]
async fn a_refund_that_fails_gives_the_credits_back(world: Arc<World>) {
    let account = world.account(7).await;
    let intent = account.buy(100).await;
    let returned = world.stripe(&format!("payment_intents/{intent}/refund"), json!({})).await;
    world.until_recorded(&intent).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (7, json!([100, 100, 0])));
    let fail = format!("refunds/{}/fail", returned["id"].as_str().unwrap());
    world.stripe(&fail, json!({})).await;
    world.until_recorded(&intent).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (107, json!([100, 0, 0])));
    // All of its events again, in another order, change nothing.
    for kind in ["refund.failed", "charge.refunded", "charge.refund.updated", "refund.created", "refund.updated"] {
        let event = world.stripe_event(kind, &intent).await;
        world.deliver(&event, json!({ "times": 2 })).await;
    }
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(account.balance().await, 107);
    // Another refund of the same charge is taken back as usual, also partly, and also if it fails while its credits are spent.
    let half = world.stripe(&format!("payment_intents/{intent}/refund"), json!({ "amount": 4608 })).await;
    world.until_recorded(&intent).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (57, json!([100, 50, 0])));
    account.spend(57).await;
    refund(&world, &intent, None).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (0, json!([100, 50, 50])));
    world.stripe(&format!("refunds/{}/fail", half["id"].as_str().unwrap()), json!({})).await;
    world.until_recorded(&intent).await;
    // What is owed for the other half, which is a cent smaller, stays taken.
    assert_eq!((account.balance().await, payment(&world, &intent).await), (1, json!([100, 49, 0])));
    let entries = account.get("/api/credits/transactions?transactionType=admin_grant").await.body;
    assert!(entries["data"][0]["created_by"].as_str().unwrap().starts_with("stripe:evt_"), "{entries}");
}

/// The two events of the case that was reported, without the fields that Stripe adds.
#[stack_test]
async fn a_failed_refund_is_known_from_two_events_in_either_order(world: Arc<World>) {
    for failed_first in [false, true] {
        let account = world.account(0).await;
        let intent = account.buy(100).await;
        let charge = world.stripe_event("charge.succeeded", &intent).await["data"]["object"]["id"].clone();
        let event = |kind: &str, object: Value| {
            json!({ "id": format!("evt_{}_{intent}", kind.replace('.', "_")), "object": "event", "type": kind, "created": 1_795_400_000,
                "api_version": "2026-10-28.endive", "livemode": false, "data": { "object": object } })
        };
        let refunded = event(
            "charge.refunded",
            json!({ "id": charge, "payment_intent": intent, "amount": 9215, "amount_refunded": 9215, "currency": "usd" }),
        );
        let failed = event(
            "refund.failed",
            json!({ "id": format!("re_{intent}"), "object": "refund", "charge": charge, "payment_intent": intent,
            "amount": 9215, "currency": "usd", "status": "failed", "failure_reason": "expired_or_canceled_card" }),
        );
        let (first, second) = if failed_first { (&failed, &refunded) } else { (&refunded, &failed) };
        world.send_event(first).await;
        account.until_balance(if failed_first { 100 } else { 0 }).await;
        world.send_event(second).await;
        account.until_balance(100).await;
        world.until_empty(Queue::StripeEvents).await;
        assert_eq!((account.balance().await, payment(&world, &intent).await), (100, json!([100, 0, 0])));
    }
}

#[stack_test]
async fn a_dispute_that_moves_no_money_takes_nothing(world: Arc<World>) {
    let account = world.account(0).await;
    let intent = account.buy(100).await;
    for case_type in ["block", "inquiry"] {
        dispute(&world, &intent, json!({ "case_type": case_type })).await;
        assert_eq!((account.balance().await, payment(&world, &intent).await), (100, json!([100, 0, 0])), "{case_type}");
    }
    // The network refunds a blocked payment instead: its half is taken once.
    refund(&world, &intent, Some(4608)).await;
    dispute(&world, &intent, json!({ "case_type": "block", "amount": 4608 })).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (50, json!([100, 50, 0])));
    assert_eq!(account.get("/api/credits/balance").await.data(200)["disputed_since"], json!(null));
    // One that was open, and that the network prevents later.
    let mut event = world.stripe_events(&intent).await.into_iter().find(|event| event["type"] == "charge.dispute.created").unwrap();
    for (number, (kind, status)) in [("created", "needs_response"), ("closed", "prevented")].into_iter().enumerate() {
        event["id"] = json!(format!("evt_turned_{number}_{intent}"));
        event["created"] = json!(event["created"].as_i64().unwrap() + 1);
        event["type"] = json!(format!("charge.dispute.{kind}"));
        event["data"]["object"]["payment_method_details"]["card"]["case_type"] = json!("chargeback");
        event["data"]["object"]["status"] = json!(status);
        world.send_event(&event).await;
        account.until_balance(if number == 0 { 0 } else { 50 }).await;
    }
}
