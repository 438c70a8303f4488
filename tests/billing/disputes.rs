//! Disputes whose decision changes, and refunds that are reported in several ways: the events in any order.

use std::sync::Arc;

use super::chargebacks::payment;
use crate::harness::{Queue, Value, World, json, stack_test};

/// Creates an event, `second` seconds after the first one.
fn event(id: &str, kind: &str, second: i64, object: &Value) -> Value {
    json!({ "id": format!("evt_{id}"), "object": "event", "type": kind, "created": 1_795_400_000 + second, "api_version": "2026-10-28.endive",
        "livemode": false, "data": { "object": object } })
}

/// Sends events in both directions, each time to a new account that bought 100 credits, and returns the balances.
async fn balances(world: &Arc<World>, events: impl Fn(&str) -> Vec<Value>) -> Vec<i32> {
    let mut balances = Vec::new();
    for is_reversed in [false, true] {
        let account = world.account(0).await;
        let intent = account.buy(100).await;
        let mut events = events(&intent);
        if is_reversed {
            events.reverse();
        }
        for event in events.iter().chain(&events) {
            world.send_event(event).await;
            world.until_empty(Queue::StripeEvents).await;
            assert!(world.is_recorded(event).await, "{event}");
        }
        balances.push(account.balance().await);
        assert_eq!(payment(world, &intent).await, json!([100, 100 - account.balance().await, 0]));
    }
    balances
}

#[stack_test]
async fn the_newest_event_of_a_dispute_decides(world: Arc<World>) {
    for (statuses, expected) in [
        // Lost in a second stage, won on appeal, and an inquiry that becomes a dispute.
        (vec!["needs_response", "won", "lost"], 0),
        (vec!["needs_response", "lost", "appeal_under_review"], 0),
        (vec!["needs_response", "lost", "appeal_under_review", "won"], 100),
        (vec!["warning_needs_response", "warning_closed", "needs_response", "lost"], 0),
        (vec!["needs_response", "prevented"], 100),
    ] {
        let sent = |intent: &str| -> Vec<Value> {
            let event = |(second, status): (i64, &&str)| {
                let object = json!({ "id": format!("du_{intent}"), "object": "dispute", "charge": format!("ch_{intent}"), "payment_intent": intent,
                    "amount": 9215, "currency": "usd", "reason": "fraudulent", "status": status });
                event(&format!("{second}_{intent}"), "charge.dispute.updated", second, &object)
            };
            (0..).zip(&statuses).map(event).collect()
        };
        assert_eq!(balances(&world, sent).await, [expected, expected], "{statuses:?}");
    }
}

/// The refund's own events may lack the charge, which the charge's event has.
#[stack_test]
async fn a_refund_without_its_charge_is_taken_back_once(world: Arc<World>) {
    let refund = |intent: &str, number: i64, status: &str| {
        json!({ "id": format!("re_{number}_{intent}"), "object": "refund", "charge": null, "payment_intent": intent, "amount": 2304, "currency": "usd",
            "status": status })
    };
    let charge = |intent: &str, total: i64| json!({ "id": format!("ch_{intent}"), "object": "charge", "payment_intent": intent, "amount": 9215, "amount_refunded": total, "currency": "usd" });
    // Two refunds of a quarter each, of which the second one may fail.
    for (last, expected) in [("succeeded", 50), ("failed", 75)] {
        let sent = |intent: &str| -> Vec<Value> {
            let id = |name: &str| format!("{name}_{intent}");
            let mut partial = [
                event(&id("first"), "charge.refunded", 0, &charge(intent, 2304)),
                event(&id("second"), "charge.refunded", 5, &charge(intent, 4608)),
            ];
            partial[0]["data"]["previous_attributes"] = json!({ "amount_refunded": 0 });
            partial[1]["data"]["previous_attributes"] = json!({ "amount_refunded": 2304 });
            let refunds = [
                event(&id("created"), "refund.created", 0, &refund(intent, 1, "pending")),
                event(&id("updated"), "refund.updated", 1, &refund(intent, 1, "succeeded")),
                event(&id("again"), "refund.created", 5, &refund(intent, 2, "pending")),
                event(&id("end"), "refund.updated", 9, &refund(intent, 2, last)),
            ];
            partial.into_iter().chain(refunds).collect()
        };
        assert_eq!(balances(&world, sent).await, [expected, expected], "{last}");
    }
}
