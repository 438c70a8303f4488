//! What is not ours: other products, systems and connected accounts that use the same Stripe account. It is ignored, and neither
//! retried nor a dead letter.

#![expect(clippy::needless_pass_by_value, reason = "objects are written where they are passed")]

use std::sync::Arc;

use crate::harness::{Queue, Value, World, json, stack_test};

fn event(id: &str, kind: &str, object: Value) -> Value {
    json!({ "id": format!("evt_{id}"), "object": "event", "type": kind, "created": 1_795_400_000, "livemode": false,
        "api_version": "2026-10-28.endive", "pending_webhooks": 1, "request": { "id": null, "idempotency_key": null }, "data": { "object": object } })
}

fn subscription(customer: &str, metadata: Value, price: &str) -> Value {
    json!({ "id": format!("sub_{customer}"), "object": "subscription", "customer": customer, "metadata": metadata, "status": "active",
        "canceled_at": null, "cancel_at": null, "cancel_at_period_end": false, "items": { "object": "list", "data": [{ "id": "si_1",
            "current_period_start": 1_795_000_000, "current_period_end": 1_797_592_000, "price": { "id": price, "object": "price" } }] } })
}

fn invoice(customer: &str, metadata: Value, price: &str, currency: &str) -> Value {
    json!({ "id": format!("in_{customer}"), "object": "invoice", "customer": customer, "status": "paid", "currency": currency, "created": 1_795_400_000,
        "billing_reason": "subscription_cycle", "hosted_invoice_url": null, "amount_due": 500, "amount_paid": 500, "total": 500,
        "parent": { "type": "subscription_details", "quote_details": null,
            "subscription_details": { "subscription": format!("sub_{customer}"), "metadata": metadata } },
        "lines": { "object": "list", "has_more": false, "data": [{ "id": "il_1", "object": "line_item", "amount": 500,
            "period": { "start": 1_795_000_000, "end": 1_797_592_000 },
            "pricing": { "type": "price_details", "price_details": { "price": price, "product": "prod_x" } },
            "parent": { "type": "subscription_item_details", "invoice_item_details": null,
                "subscription_item_details": { "proration": false, "subscription": format!("sub_{customer}") } } }] } })
}

fn session(account: &str, currency: &str) -> Value {
    json!({ "id": format!("cs_{account}"), "object": "checkout.session", "mode": "payment", "payment_status": "paid", "amount_subtotal": 970,
        "amount_total": 970, "currency": currency, "customer": null, "client_reference_id": null, "payment_intent": format!("pi_{account}"),
        "metadata": { "kind": "credits", "account_id": account, "credits": "10", "total_cents": "970" } })
}

#[stack_test]
async fn what_is_not_ours_is_ignored(world: Arc<World>) {
    let account = world.account(3).await;
    let customer = account.customer().await;
    let unknown = uuid::Uuid::new_v4().to_string();
    let connected = |mut event: Value| {
        event["account"] = json!("acct_connected");
        event
    };
    let charge =
        json!({ "id": "ch_other", "payment_intent": "pi_of_something_else", "amount": 100, "amount_refunded": 100, "currency": "eur" });
    let refund = json!({ "id": "re_other", "object": "refund", "charge": "ch_other", "payment_intent": "pi_other", "amount": 100, "currency": "eur", "status": "failed" });
    let dispute = json!({ "id": "du_other", "object": "dispute", "charge": "ch_other", "payment_intent": "pi_other", "amount": 100, "currency": "eur",
        "reason": "fraudulent", "status": "needs_response", "balance_transactions": [] });
    let events = [
        // Another product, in another currency.
        event("eur_refund", "charge.refunded", charge),
        event("eur_failure", "refund.failed", refund),
        event("eur_dispute", "charge.dispute.created", dispute),
        event("eur_session", "checkout.session.completed", session(&unknown, "eur")),
        // Another system's metadata, in a form of its own and in ours.
        event(
            "text_customer",
            "customer.updated",
            json!({ "id": "cus_other", "object": "customer", "metadata": { "account_id": "12345" } }),
        ),
        event(
            "uuid_customer",
            "customer.updated",
            json!({ "id": "cus_other2", "object": "customer", "metadata": { "account_id": unknown } }),
        ),
        event("text_session", "checkout.session.completed", session("12345", "usd")),
        event("uuid_session", "checkout.session.completed", session(&unknown, "usd")),
        event("text_subscription", "customer.subscription.created", subscription("cus_o1", json!({ "account_id": "12345" }), "price_pro")),
        event("uuid_subscription", "customer.subscription.created", subscription("cus_o2", json!({ "account_id": unknown }), "price_pro")),
        event("text_invoice", "invoice.paid", invoice("cus_o1", json!({ "account_id": "12345" }), "price_pro", "usd")),
        event("uuid_invoice", "invoice.paid", invoice("cus_o2", json!({ "account_id": unknown }), "price_pro", "usd")),
        // Another product, of a customer that is ours and of one that is not.
        event("other_subscription", "customer.subscription.created", subscription(&customer, json!({}), "price_newsletter")),
        event("other_invoice", "invoice.paid", invoice(&customer, json!({}), "price_newsletter", "eur")),
        event("other_void", "invoice.voided", invoice(&customer, json!({}), "price_newsletter", "usd")),
        event("others_invoice", "invoice.paid", invoice("cus_o3", json!({}), "price_newsletter", "usd")),
        // A connected account.
        connected(event("connected_invoice", "invoice.paid", invoice(&customer, json!({}), "price_pro", "usd"))),
        connected(event("connected_session", "checkout.session.completed", session(&account.id, "usd"))),
    ];
    for event in &events {
        world.send_event(event).await;
    }
    world.until_empty(Queue::StripeEvents).await;
    for event in &events {
        let id = event["id"].as_str().unwrap();
        let outcome: Option<String> = world.db.value("SELECT outcome FROM webhook_events WHERE stripe_event_id = $1", &[&id]).await;
        assert_eq!(outcome.as_deref(), Some("ignored"), "{id}");
    }
    assert_eq!((account.balance().await, account.amounts("purchase").await), (3, vec![]));
    let sql = "SELECT count(*) FROM subscriptions WHERE account_id = $1::text::uuid";
    assert_eq!(world.db.value::<i64>(sql, &[&account.id]).await, Some(1), "the free one");
}

/// A price that no plan has is ours as long as a plan that is on sale has none: its events wait for it.
#[stack_test(alone)]
async fn an_unknown_price_waits_while_a_plan_has_none(world: Arc<World>) {
    let account = world.account(0).await;
    let customer = account.customer().await;
    let effect = json!({ "kind": "invoice", "invoice_id": "in_waiting", "customer": customer, "subscription_id": "sub_waiting", "status": "paid",
        "amount_due": 3000, "amount_paid": 3000, "total": 3000, "currency": "usd", "created": 1, "lines_omitted": false,
        "lines": [{ "price_id": "price_pro", "amount": 3000, "period_start": 1_795_000_000, "period_end": 1_797_592_000 }] });
    let event = json!({ "event_id": "evt_waiting", "event_type": "invoice.paid", "created": 1, "api_version": null, "effect": effect });
    let client = world.db.connect().await;
    client.batch_execute("BEGIN; UPDATE plans SET stripe_price_id = NULL WHERE id = 'pro'").await.unwrap();
    let early = client.query_one("SELECT apply_stripe_event($1)", &[&event]).await.unwrap_err();
    assert_eq!(early.as_db_error().map(|error| error.code().code()), Some("OS404"));
    client.batch_execute("ROLLBACK").await.unwrap();
    let applied: Value = client.query_one("SELECT apply_stripe_event($1)", &[&event]).await.unwrap().get(0);
    assert_eq!((&applied["outcome"], account.balance().await), (&json!("applied"), 100));
    // An invoice with more lines than its event, of one of our customers, is not guessed at.
    let mut long = event.clone();
    (long["event_id"], long["effect"]["invoice_id"], long["effect"]["lines_omitted"]) = (json!("evt_long"), json!("in_long"), json!(true));
    let refused = client.query_one("SELECT apply_stripe_event($1)", &[&long]).await.unwrap_err();
    assert_eq!(refused.as_db_error().map(|error| error.code().code()), Some("OS400"));
}
