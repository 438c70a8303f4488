//! Invoices that are settled by other means than a card, and prices that are presented in another currency or that no plan has.

use std::sync::Arc;

use super::chargebacks::{dispute, payment};
use crate::harness::{Account, Value, World, json, stack_test};

/// Subscribes a new account, whose customer has this credit, to the smallest plan. Returns the account, its customer and the subscription.
async fn subscriber(world: &Arc<World>, credit: i64) -> (Account, String, String) {
    let account = world.account(0).await;
    let customer = account.customer().await;
    if credit > 0 {
        world.stripe(&format!("customers/{customer}/credit"), json!({ "amount": credit })).await;
    }
    let subscription = world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
    world.until_recorded(&customer).await;
    (account, customer, subscription["id"].as_str().unwrap().to_owned())
}

#[stack_test]
async fn a_month_that_is_paid_without_a_card_is_granted(world: Arc<World>) {
    // A gift pays the first month and a third of the second one.
    let (account, customer, subscription) = subscriber(&world, 4000).await;
    assert_eq!(account.amounts("subscription_renewal").await, [100]);
    world.next_second().await;
    world.stripe(&format!("subscriptions/{subscription}/renew"), json!({})).await;
    world.until_recorded(&customer).await;
    assert_eq!(account.amounts("subscription_renewal").await, [100, 100]);
    // Returning the card's part takes back its share.
    let charge = world.stripe_event("charge.succeeded", &customer).await;
    let intent = charge["data"]["object"]["payment_intent"].as_str().unwrap().to_owned();
    world.stripe(&format!("payment_intents/{intent}/refund"), json!({})).await;
    world.until_recorded(&intent).await;
    assert_eq!(account.balance().await, 200 - 66);
    // The third month is paid by a bank transfer, which Stripe only records.
    world.next_second().await;
    let failed = world.stripe(&format!("subscriptions/{subscription}/renew"), json!({ "fail": true })).await;
    world.until_recorded(&customer).await;
    assert_eq!(account.balance().await, 200 - 66);
    world.stripe(&format!("invoices/{}/pay_outside", failed["invoice"]["id"].as_str().unwrap()), json!({})).await;
    world.until_recorded(&customer).await;
    assert_eq!((account.amounts("subscription_renewal").await, account.balance().await), (vec![100, 100, 100], 300 - 66));
}

#[stack_test]
async fn a_purchase_in_the_payers_currency_is_granted_and_its_dispute_counts(world: Arc<World>) {
    let account = world.account(0).await;
    let session = account.checkout(100).await;
    let presented = json!({ "presentment_amount": 8000, "presentment_currency": "eur" });
    let paid = world.stripe(&format!("sessions/{session}/pay"), json!({ "presented": presented })).await;
    world.until_recorded(&session).await;
    assert_eq!(account.balance().await, 100);
    let intent = paid["payment_intent"].as_str().unwrap();
    dispute(&world, intent, json!({ "amount": 4000 })).await;
    let opened = world.stripe_event("charge.dispute.created", intent).await;
    assert_eq!((&opened["data"]["object"]["currency"], &opened["data"]["object"]["amount"]), (&json!("eur"), &json!(4000)));
    assert_eq!((account.balance().await, payment(&world, intent).await), (50, json!([100, 50, 0])));
}

/// Applies an effect as the consumer does and returns the outcome, or the code of the error.
async fn apply(client: &tokio_postgres::Client, id: &str, kind: &str, effect: &Value) -> String {
    let event =
        json!({ "event_id": format!("evt_{id}"), "event_type": kind, "created": 1_795_400_000, "api_version": null, "effect": effect });
    match client.query_one("SELECT apply_stripe_event($1)", &[&event]).await {
        Ok(row) => row.get::<_, Value>(0)["outcome"].as_str().unwrap().to_owned(),
        Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{error}")).code().code().to_owned(),
    }
}

/// Creates the effect of an invoice with these lines: price and amount.
fn invoice(customer: &str, subscription: &str, id: &str, status: &str, lines: &[(&str, i64)]) -> Value {
    let total: i64 = lines.iter().map(|(_, amount)| amount).sum();
    let line = |(price, amount): &(&str, i64)| json!({ "price_id": price, "amount": amount, "period_start": 1_897_592_000, "period_end": 1_900_270_400 });
    json!({ "kind": "invoice", "invoice_id": id, "customer": customer, "subscription_id": subscription, "status": status, "amount_due": total,
        "amount_paid": total, "credit_notes": 0, "from_balance": 0, "returned_earlier": 0, "total": total, "currency": "usd", "created": 1,
        "billing_reason": "subscription_cycle", "lines_omitted": false, "lines": lines.iter().map(line).collect::<Vec<_>>() })
}

#[stack_test]
async fn a_known_subscription_with_an_unknown_price_is_an_error(world: Arc<World>) {
    let (account, customer, subscription) = subscriber(&world, 0).await;
    let client = world.db.connect().await;
    let id = |name: &str| format!("{name}_{subscription}");
    let invoice = |name: &str, status: &str, lines: &[(&str, i64)]| invoice(&customer, &subscription, &id(name), status, lines);
    let items = |prices: &[&str]| {
        let item = |price: &&str| json!({ "price_id": price, "period_start": 1_897_592_000, "period_end": 1_900_270_400 });
        json!({ "kind": "subscription", "subscription_id": subscription, "customer": customer, "status": "active", "deleted": false,
            "cancel_at_period_end": false, "items": prices.iter().map(item).collect::<Vec<_>>() })
    };
    // The plan's price was replaced by one that no plan has: each of its events waits, however it is paid.
    for (name, kind, effect) in [
        ("paid", "invoice.paid", invoice("in_new", "paid", &[("price_new", 3000)])),
        ("open", "invoice.payment_failed", invoice("in_new", "open", &[("price_new", 3000)])),
        ("changed", "invoice.paid", invoice("in_change", "paid", &[("price_pro", -1500), ("price_new", 4000)])),
        ("updated", "customer.subscription.updated", items(&["price_new"])),
    ] {
        assert_eq!(apply(&client, &id(name), kind, &effect).await, "OS404", "{name}");
    }
    // What is not collected moves no money.
    assert_eq!(apply(&client, &id("void"), "invoice.voided", &invoice("in_void", "void", &[("price_new", 3000)])).await, "applied");
    // A product beside the plan is known from the subscription, and is none of ours.
    let add_on = invoice("in_add_on", "paid", &[("price_add_on", 900)]);
    assert_eq!(apply(&client, &id("early"), "invoice.paid", &add_on).await, "OS404");
    let updated = items(&["price_add_on", "price_pro"]);
    assert_eq!(apply(&client, &id("added"), "customer.subscription.updated", &updated).await, "applied");
    assert_eq!(apply(&client, &id("early"), "invoice.paid", &add_on).await, "ignored");
    let both = invoice("in_both", "paid", &[("price_add_on", 900), ("price_pro", 3000)]);
    assert_eq!(apply(&client, &id("both"), "invoice.paid", &both).await, "applied");
    assert_eq!(account.balance().await, 200);
    // Once applied, an event that is redelivered is no error, even if its price belongs to no plan any longer.
    client.batch_execute("BEGIN; UPDATE plans SET stripe_price_id = 'price_later' WHERE id = 'pro'").await.unwrap();
    assert_eq!(apply(&client, &id("both"), "invoice.paid", &both).await, "duplicate");
    client.batch_execute("ROLLBACK").await.unwrap();
}

#[stack_test]
async fn what_is_ours_in_another_currency_is_an_error(world: Arc<World>) {
    let account = world.account(0).await;
    let intent = account.buy(10).await;
    let client = world.db.connect().await;
    let dispute = |currency: &str, state: &str, source: &str| {
        json!({ "kind": "reversal", "source": source, "payment": source, "currency": currency, "change": "dispute", "dispute_id": "du_1",
            "cents": 970, "state": state })
    };
    let other = format!("pi_other_{}", account.id);
    for (name, source, currency, state, expected) in [
        ("pounds", intent.as_str(), "gbp", "open", "OS400"),
        ("status", intent.as_str(), "usd", "unknown", "OS400"),
        ("other", other.as_str(), "gbp", "unknown", "applied"),
    ] {
        let id = format!("{name}_{intent}");
        assert_eq!(apply(&client, &id, "charge.dispute.created", &dispute(currency, state, source)).await, expected, "{name}");
    }
    for (owner, expected) in [(account.id.clone(), "OS400"), (uuid::Uuid::new_v4().to_string(), "ignored")] {
        let session = json!({ "kind": "payment", "session_id": format!("cs_{owner}"), "payment_intent": null, "account_id": owner, "credits": 10,
            "amount_cents": 970, "currency": "eur", "priced_in": "eur", "customer": null });
        assert_eq!(apply(&client, &format!("euros_{owner}"), "checkout.session.completed", &session).await, expected);
    }
    // A month that is paid from a balance that Stripe does not know (any longer) is granted by hand.
    let customer = account.customer().await;
    let mut invoice = invoice(&customer, &format!("sub_{intent}"), &format!("in_{intent}"), "paid", &[("price_pro", 3000)]);
    (invoice["from_balance"], invoice["returned_earlier"]) = (json!(3000), Value::Null);
    assert_eq!(apply(&client, &format!("balance_{intent}"), "invoice.paid", &invoice).await, "OS400");
    assert_eq!(account.balance().await, 10);
}
