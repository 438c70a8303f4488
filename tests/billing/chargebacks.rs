//! Refunds and disputes: they remove credits as far as there are any, once for the same money.

use std::sync::Arc;

use crate::harness::{Account, Queue, Value, World, json, stack_test};

/// Returns a payment's credits, those taken back, and the shortfall.
pub async fn payment(world: &World, source: &str) -> Value {
    let sql = "SELECT jsonb_build_array(credits, taken, shortfall) FROM stripe_payments WHERE source = $1";
    world.db.value(sql, &[&source]).await.unwrap_or_default()
}

/// Refunds cents of a payment, or all of it, and waits until the events are recorded.
pub async fn refund(world: &World, intent: &str, cents: Option<i64>) {
    let order = cents.map_or_else(|| json!({}), |amount| json!({ "amount": amount }));
    world.stripe(&format!("payment_intents/{intent}/refund"), order).await;
    world.until_recorded(intent).await;
}

pub async fn dispute(world: &World, intent: &str, order: Value) {
    world.stripe(&format!("payment_intents/{intent}/dispute"), order).await;
    world.until_recorded(intent).await;
}

#[stack_test]
async fn a_refund_takes_back_the_purchased_credits(world: Arc<World>) {
    let account = world.account(7).await;
    let intent = account.buy(100).await;
    assert_eq!(account.balance().await, 107);
    refund(&world, &intent, None).await;
    assert_eq!((account.balance().await, account.amounts("chargeback").await.last().copied()), (7, Some(-100)));
    assert_eq!(payment(&world, &intent).await, json!([100, 100, 0]));
    let event = world.stripe_event("charge.refunded", &intent).await;
    world.deliver(&event, json!({ "times": 10, "concurrent": true })).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(account.balance().await, 7);
    let listed = account.get("/api/credits/transactions?transactionType=chargeback").await.body;
    assert_eq!(json!([listed["data"][0]["amount"], listed["data"][0]["description"]]), json!([-100, "Payment returned"]));
}

#[stack_test]
async fn spent_credits_are_collected_from_the_next_ones(world: Arc<World>) {
    let account = world.account(0).await;
    let half_spent = account.buy(100).await;
    account.spend(70).await;
    refund(&world, &half_spent, None).await;
    assert_eq!((account.balance().await, payment(&world, &half_spent).await), (0, json!([100, 30, 70])));
    let shown = account.get("/api/credits/balance").await.data(200);
    assert_eq!((&shown["current_balance"], &shown["open_shortfall"]), (&json!(0), &json!(70)));
    // The next purchase pays for them first. Nothing of it can be spent.
    account.buy(20).await;
    assert_eq!((account.balance().await, payment(&world, &half_spent).await), (0, json!([100, 50, 50])));
    account.analyze(&world.handle("owing"), "light").await.problem(402, "INSUFFICIENT_CREDITS");
    let event = world.stripe_event("charge.refunded", &half_spent).await;
    world.deliver(&event, json!({ "times": 3 })).await;
    world.until_empty(Queue::StripeEvents).await;
    account.buy(60).await;
    assert_eq!((account.balance().await, payment(&world, &half_spent).await), (10, json!([100, 100, 0])));
    let shown = account.get("/api/credits/balance").await.data(200);
    assert_eq!((&shown["current_balance"], &shown["open_shortfall"]), (&json!(10), &json!(0)));
}

#[stack_test]
async fn partial_refunds_take_back_in_proportion(world: Arc<World>) {
    let account = world.account(0).await;
    // 10 credits cost 970 cents, so a cent is less than a credit.
    let intent = account.buy(10).await;
    for (cents, left) in [(1, 10), (95, 10), (1, 9), (388, 5), (484, 1), (1, 0)] {
        refund(&world, &intent, Some(cents)).await;
        assert_eq!(account.balance().await, left, "after {cents} more");
    }
    assert_eq!(payment(&world, &intent).await, json!([10, 10, 0]));
    assert_eq!(account.amounts("chargeback").await.iter().rev().take(4).sum::<i32>(), -10);
}

#[stack_test]
async fn a_refund_before_its_payment_waits_for_it(world: Arc<World>) {
    let account = world.account(0).await;
    let session = account.checkout(100).await;
    world.until_recorded(&account.id).await;
    world.stripe("pause", json!({ "match": session })).await;
    let paid = world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let intent = paid["payment_intent"].as_str().unwrap();
    world.stripe(&format!("payment_intents/{intent}/refund"), json!({ "amount": 4850 })).await;
    let refunded = world.stripe_event("charge.refunded", intent).await;
    crate::harness::until("the refund", std::time::Duration::from_mins(1), || async { world.is_recorded(&refunded).await.then_some(()) })
        .await;
    assert_eq!((account.balance().await, payment(&world, intent).await), (0, json!([null, 0, 0])));
    world.stripe("resume", json!({ "match": session, "send_held": true })).await;
    world.until_recorded(&session).await;
    // 100 credits cost 9215 cents.
    assert_eq!((account.balance().await, payment(&world, intent).await), (48, json!([100, 52, 0])));
}

#[stack_test]
async fn money_that_is_returned_twice_is_taken_back_once(world: Arc<World>) {
    let account = world.account(0).await;
    let intent = account.buy(100).await;
    refund(&world, &intent, None).await;
    assert_eq!(account.balance().await, 0);
    account.buy(30).await;
    // A dispute after a full refund takes nothing, because nothing of the payment is left.
    dispute(&world, &intent, json!({})).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (30, json!([100, 100, 0])));
    // A refund takes a part, and a dispute the rest.
    let intent = account.buy(100).await;
    refund(&world, &intent, Some(9215 / 5)).await;
    assert_eq!(account.balance().await, 30 + 80);
    dispute(&world, &intent, json!({ "amount": 9215 })).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (30, json!([100, 100, 0])));
}

/// Returns the payment of a subscription's first invoice.
async fn first_payment(world: &World, customer: &str) -> (String, String) {
    let charge = world.stripe_event("charge.succeeded", customer).await;
    let intent = charge["data"]["object"]["payment_intent"].as_str().unwrap().to_owned();
    let invoice = world.stripe_event("invoice.paid", customer).await;
    (intent, invoice["data"]["object"]["id"].as_str().unwrap().to_owned())
}

async fn subscriber(world: &Arc<World>) -> (Account, String) {
    let account = world.account(1).await;
    let customer = account.customer().await;
    world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
    world.until_recorded(&customer).await;
    assert_eq!(account.balance().await, 101);
    (account, customer)
}

#[stack_test]
async fn a_refunded_invoice_takes_back_the_periods_credits(world: Arc<World>) {
    let (account, customer) = subscriber(&world).await;
    let (intent, invoice) = first_payment(&world, &customer).await;
    refund(&world, &intent, Some(1500)).await;
    assert_eq!((account.balance().await, payment(&world, &invoice).await), (51, json!([100, 50, 0])));
    account.spend(41).await;
    dispute(&world, &intent, json!({})).await;
    assert_eq!((account.balance().await, payment(&world, &invoice).await), (0, json!([100, 60, 40])));
}

/// The consumer reads the payment's invoice from Stripe. Without a response it takes nothing, and the event is redelivered.
#[stack_test(alone)]
async fn a_refund_is_redelivered_while_stripe_is_unavailable(world: Arc<World>) {
    world.set_visibility_timeout(Queue::StripeEvents, 2).await;
    let account = world.account(0).await;
    let intent = account.buy(10).await;
    let fault =
        json!({ "vendor": "stripe", "op": "invoice_payments", "match": intent, "times": 4, "fault": { "kind": "status", "status": 503 } });
    world.fault_rule(fault).await;
    refund(&world, &intent, None).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (0, json!([10, 10, 0])));
    let asked = world.calls("stripe", &intent).await.into_iter().filter(|call| call["op"] == "invoice_payments").count();
    // Four failures, and one response for each of the refund's two events.
    assert_eq!(asked, 6);
    world.until_empty(Queue::StripeEvents).await;
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
}

#[stack_test]
async fn a_dispute_that_is_won_restores_the_credits(world: Arc<World>) {
    let account = world.account(0).await;
    let intent = account.buy(100).await;
    dispute(&world, &intent, json!({})).await;
    assert_eq!(account.balance().await, 0);
    let mut closed = world.stripe_event("charge.dispute.created", &intent).await;
    closed["type"] = json!("charge.dispute.closed");
    closed["created"] = json!(closed["created"].as_i64().unwrap() + 5);
    closed["data"]["object"]["status"] = json!("won");
    for copy in ["a", "b"] {
        closed["id"] = json!(format!("evt_won_{copy}_{intent}"));
        world.send_event(&closed).await;
        account.until_balance(100).await;
    }
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!((account.balance().await, payment(&world, &intent).await), (100, json!([100, 0, 0])));
    // A later voluntary refund takes the credits again, because they are owed as before.
    let charge = closed["data"]["object"]["charge"].clone();
    closed["id"] = json!(format!("evt_late_{intent}"));
    closed["type"] = json!("charge.refunded");
    closed["data"]["object"] =
        json!({ "id": charge, "object": "charge", "payment_intent": intent, "amount_refunded": 9215, "currency": "usd" });
    world.send_event(&closed).await;
    account.until_balance(0).await;
    assert_eq!(payment(&world, &intent).await, json!([100, 100, 0]));
}
