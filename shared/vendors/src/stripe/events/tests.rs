//! Events in the layout of the pinned version, shortened to what surrounds the fields that we read.

use serde_json::json;

use super::*;

const ACCOUNT: &str = "00000000-0000-0000-0000-00000000000a";

fn account() -> AccountId {
    ACCOUNT.parse().unwrap()
}

fn event(kind: &str, object: &Value) -> Event {
    let event = json!({
        "id": "evt_1Qx", "object": "event", "api_version": "2026-10-28.endive", "created": 1_795_400_000, "data": { "object": object },
        "livemode": false, "pending_webhooks": 1, "request": { "id": null, "idempotency_key": null }, "type": kind
    });
    Event::parse(event.to_string().as_bytes()).unwrap()
}

fn effect(kind: &str, object: &Value) -> Result<Effect, InvalidEvent> {
    match event(kind, object).read()? {
        Reading::Effect(effect) => Ok(effect),
        Reading::Reversal(reversal) => panic!("{reversal:?}"),
    }
}

fn reversal(kind: &str, object: &Value) -> Reversal {
    match event(kind, object).read() {
        Ok(Reading::Reversal(reversal)) => reversal,
        other => panic!("{other:?}"),
    }
}

/// The object with some fields, named by pointer, set to something else.
fn with(object: &Value, changes: &[(&str, Value)]) -> Value {
    let mut object = object.clone();
    for (path, value) in changes {
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut object } else { object.pointer_mut(parent).unwrap() };
        parent[field] = value.clone();
    }
    object
}

/// The object without a field.
fn without(object: &Value, path: &str) -> Value {
    let mut object = object.clone();
    let (parent, field) = path.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { &mut object } else { object.pointer_mut(parent).unwrap() };
    parent.as_object_mut().unwrap().remove(field).unwrap();
    object
}

fn session() -> Value {
    json!({
        "id": "cs_test_a1", "object": "checkout.session", "amount_subtotal": 23_038, "amount_total": 23_038, "client_reference_id": ACCOUNT,
        "created": 1_795_399_000, "currency": "usd", "customer": "cus_1", "customer_details": { "email": "jane@example.com" },
        "expires_at": 1_795_485_400, "invoice": null, "livemode": false,
        "metadata": { "kind": "credits", "account_id": ACCOUNT, "credits": "250", "total_cents": "23038" },
        "mode": "payment", "payment_intent": "pi_1", "payment_method_types": ["card"], "payment_status": "paid", "status": "complete",
        "subscription": null, "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 }, "ui_mode": "hosted_page",
        "url": null
    })
}

fn subscription() -> Value {
    json!({
        "id": "sub_1", "object": "subscription", "billing_mode": { "type": "flexible" }, "cancel_at": null, "cancel_at_period_end": false,
        "canceled_at": null, "created": 1_795_000_000, "currency": "usd", "customer": "cus_1", "ended_at": null, "latest_invoice": "in_1",
        "items": { "object": "list", "has_more": false, "data": [{
            "id": "si_1", "object": "subscription_item", "current_period_start": 1_795_000_000, "current_period_end": 1_797_592_000,
            "price": { "id": "price_pro", "object": "price", "product": "prod_1", "unit_amount": 3000, "recurring": { "interval": "month" } },
            "quantity": 1, "subscription": "sub_1"
        }] },
        "metadata": {}, "start_date": 1_795_000_000, "status": "active", "trial_end": null, "trial_start": null
    })
}

fn line(price: &str, proration: bool, period: [i64; 2]) -> Value {
    json!({
        "id": "il_1", "object": "line_item", "amount": 3000, "currency": "usd",
        "parent": { "type": "subscription_item_details", "invoice_item_details": null, "subscription_item_details": {
            "invoice_item": null, "proration": proration, "proration_details": null, "subscription": "sub_1", "subscription_item": "si_1"
        } },
        "period": { "start": period[0], "end": period[1] },
        "pricing": { "type": "price_details", "price_details": { "price": price, "product": "prod_1" }, "unit_amount_decimal": "3000" }
    })
}

fn invoice() -> Value {
    json!({
        "id": "in_1", "object": "invoice", "amount_due": 3000, "amount_paid": 3000, "amount_remaining": 0, "attempt_count": 1,
        "billing_reason": "subscription_cycle", "created": 1_797_592_000, "currency": "usd", "customer": "cus_1",
        "hosted_invoice_url": "https://invoice.stripe.com/i/1",
        "lines": { "object": "list", "has_more": false, "data": [line("price_pro", false, [1_797_592_000, 1_800_270_400])] },
        "parent": { "type": "subscription_details", "quote_details": null, "subscription_details": { "metadata": {}, "subscription": "sub_1" } },
        "period_start": 1_795_000_000, "period_end": 1_797_592_000, "status": "paid", "total": 3000
    })
}

fn charge() -> Value {
    json!({
        "id": "ch_1", "object": "charge", "amount": 23_038, "amount_captured": 23_038, "amount_refunded": 10_000, "currency": "usd",
        "customer": "cus_1", "metadata": {}, "payment_intent": "pi_1", "refunded": false
    })
}

fn dispute_object() -> Value {
    json!({
        "id": "du_1", "object": "dispute", "amount": 23_038, "charge": "ch_1", "currency": "usd", "payment_intent": "pi_1",
        "reason": "fraudulent", "status": "needs_response"
    })
}

fn paid() -> Effect {
    Effect::Payment {
        session_id: "cs_test_a1".to_owned(),
        payment_intent: Some("pi_1".to_owned()),
        account_id: account(),
        credits: 250,
        amount_cents: 23_038,
        customer: Some("cus_1".to_owned()),
    }
}

fn known_customer() -> Effect {
    Effect::Customer { customer: "cus_1".to_owned(), account_id: account(), made_by_us: false, deleted: false }
}

#[test]
fn an_event_is_recognized_by_its_envelope() {
    let read = event("invoice.paid", &invoice());
    assert_eq!((read.id.as_str(), read.kind.as_str(), read.created), ("evt_1Qx", "invoice.paid", 1_795_400_000));
    assert_eq!(read.api_version.as_deref(), Some(crate::stripe::API_VERSION));
    let thin = json!({"object": "v2.core.event", "id": "evt_1", "type": "v1.invoice.paid", "created": "2026-11-22T12:00:00Z"});
    for body in [&thin.to_string(), "", "[]", "null", "{}", r#"{"object":"event","id":"evt_1","type":"x","created":1}"#, "{\"object\""] {
        assert!(Event::parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn other_events_are_ignored() {
    for kind in ["customer.subscription.trial_will_end", "checkout.session.async_payment_failed", "charge.succeeded", "a.new.one"] {
        assert_eq!(effect(kind, &json!({})), Ok(Effect::Ignored), "{kind}");
    }
    assert_eq!(effect("customer.created", &json!({"id": "cus_1", "metadata": {}})), Ok(Effect::Ignored));
    let other = with(&session(), &[("/metadata", json!({}))]);
    assert_eq!(effect("checkout.session.completed", &other), Ok(Effect::Ignored));
    assert_eq!(effect("checkout.session.completed", &with(&session(), &[("/mode", json!("setup"))])), Ok(Effect::Ignored));
    for kind in ["charge.refunded", "charge.dispute.created"] {
        assert_eq!(effect(kind, &with(&charge(), &[("/payment_intent", Value::Null)])), Ok(Effect::Ignored));
    }
}

#[test]
fn a_customer_that_was_created_for_an_account_names_it() {
    let object = json!({"id": "cus_1", "object": "customer", "email": null, "metadata": { "account_id": ACCOUNT }});
    for kind in ["customer.created", "customer.updated"] {
        let made = |deleted| Effect::Customer { customer: "cus_1".to_owned(), account_id: account(), made_by_us: true, deleted };
        assert_eq!(effect(kind, &object), Ok(made(false)));
        assert_eq!(effect("customer.deleted", &object), Ok(made(true)));
    }
    let error = effect("customer.created", &with(&object, &[("/metadata/account_id", json!("jane"))])).unwrap_err();
    assert_eq!(error.to_string(), "/metadata/account_id: is malformed");
}

#[test]
fn either_event_of_a_paid_purchase_is_a_payment() {
    for kind in ["checkout.session.completed", "checkout.session.async_payment_succeeded"] {
        assert_eq!(effect(kind, &session()), Ok(paid()), "{kind}");
    }
    let expanded = [("/customer", json!({"id": "cus_1", "object": "customer"})), ("/payment_intent", json!({"id": "pi_1"}))];
    assert_eq!(effect("checkout.session.completed", &with(&session(), &expanded)), Ok(paid()));
    let free = [("/payment_status", json!("no_payment_required")), ("/amount_total", json!(0)), ("/payment_intent", Value::Null)];
    let Ok(Effect::Payment { payment_intent: None, amount_cents: 0, .. }) = effect("checkout.session.completed", &with(&session(), &free))
    else {
        panic!("no payment")
    };
}

#[test]
fn an_unpaid_purchase_only_names_the_customer() {
    let unpaid = with(&session(), &[("/payment_status", json!("unpaid"))]);
    assert_eq!(effect("checkout.session.completed", &unpaid), Ok(known_customer()));
    assert_eq!(effect("checkout.session.completed", &with(&unpaid, &[("/customer", Value::Null)])), Ok(Effect::Ignored));
}

#[test]
fn a_purchase_that_contradicts_itself_is_rejected() {
    let other = "00000000-0000-0000-0000-00000000000b";
    for (path, value) in [
        ("/amount_subtotal", json!(100)),
        ("/currency", json!("eur")),
        ("/client_reference_id", json!(other)),
        ("/metadata/account_id", json!("x")),
        ("/metadata/account_id", Value::Null),
        ("/metadata/credits", json!("-5")),
        ("/metadata/credits", json!(250)),
        ("/metadata/credits", json!("2.5")),
        ("/metadata/total_cents", json!("0")),
        ("/amount_total", json!("23038")),
        ("/payment_status", Value::Null),
        ("/id", json!("")),
    ] {
        let error = effect("checkout.session.completed", &with(&session(), &[(path, value)])).unwrap_err();
        assert_eq!(error.path, path);
    }
    // An absent reference is no contradiction.
    assert_eq!(effect("checkout.session.completed", &with(&session(), &[("/client_reference_id", Value::Null)])), Ok(paid()));
}

#[test]
fn a_subscription_through_a_link_names_the_account_of_the_customer() {
    let link = with(&session(), &[("/mode", json!("subscription")), ("/metadata", json!({})), ("/payment_intent", Value::Null)]);
    assert_eq!(effect("checkout.session.completed", &link), Ok(known_customer()));
    for (path, value) in [("/client_reference_id", json!("newsletter")), ("/client_reference_id", Value::Null), ("/customer", Value::Null)]
    {
        assert_eq!(effect("checkout.session.completed", &with(&link, &[(path, value)])), Ok(Effect::Ignored));
    }
}

#[test]
fn a_subscription_is_read_as_it_is() {
    let expected = |deleted: bool| {
        json!({
            "kind": "subscription", "subscription_id": "sub_1", "customer": "cus_1", "account_id": null, "status": "active",
            "price_id": "price_pro", "period_start": 1_795_000_000, "period_end": 1_797_592_000, "canceled_at": null,
            "cancel_at_period_end": false, "deleted": deleted
        })
    };
    for word in ["created", "updated", "paused", "resumed", "deleted"] {
        let read = effect(&format!("customer.subscription.{word}"), &subscription()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), expected(word == "deleted"), "{word}");
    }
    let ending = with(
        &subscription(),
        &[
            ("/customer", json!({"id": "cus_1"})),
            ("/metadata/account_id", json!(ACCOUNT)),
            ("/canceled_at", json!(1_795_300_000)),
            ("/cancel_at_period_end", json!(true)),
            ("/items/data/0/price", json!("price_pro")),
        ],
    );
    let mut read = expected(false);
    read["account_id"] = json!(ACCOUNT);
    read["canceled_at"] = json!(1_795_300_000);
    read["cancel_at_period_end"] = json!(true);
    assert_eq!(serde_json::to_value(effect("customer.subscription.updated", &ending).unwrap()).unwrap(), read);
}

#[test]
fn the_layout_of_an_older_version_is_named() {
    // Before basil the period was the subscription's, and the invoice named its subscription itself.
    let old = with(&subscription(), &[("/current_period_start", json!(1)), ("/current_period_end", json!(2))]);
    let old = without(&without(&old, "/items/data/0/current_period_start"), "/items/data/0/current_period_end");
    let error = effect("customer.subscription.updated", &old).unwrap_err();
    assert_eq!(error.to_string(), "/items/data/0/current_period_start: is missing: is the endpoint of our API version?");
    let old = with(&without(&invoice(), "/parent"), &[("/subscription", json!("sub_1"))]);
    assert_eq!(effect("invoice.paid", &old).unwrap_err().path, "/parent");
    assert!(effect("customer.subscription.updated", &with(&subscription(), &[("/items/data", json!([]))])).is_err());
    assert!(effect("invoice.paid", &Value::Null).is_err());
}

#[test]
fn an_invoice_has_the_period_that_it_charges() {
    let read = serde_json::to_value(effect("invoice.paid", &invoice()).unwrap()).unwrap();
    let expected = json!({
        "kind": "invoice", "invoice_id": "in_1", "customer": "cus_1", "subscription_id": "sub_1", "paid": true, "amount_due": 3000,
        "amount_paid": 3000, "currency": "usd", "price_id": "price_pro", "lines": [{ "price_id": "price_pro", "amount": 3000 }],
        "total": 3000, "account_id": null, "period_start": 1_797_592_000, "period_end": 1_800_270_400,
        "hosted_invoice_url": "https://invoice.stripe.com/i/1", "billing_reason": "subscription_cycle", "created": 1_797_592_000
    });
    assert_eq!(read, expected);
    let failed = with(&invoice(), &[("/amount_paid", json!(0)), ("/status", json!("open"))]);
    let Ok(Effect::Invoice { paid: false, amount_due: 3000, amount_paid: 0, .. }) = effect("invoice.payment_failed", &failed) else {
        panic!("no failed invoice")
    };
}

#[test]
fn prorations_have_no_period() {
    let item = json!({"parent": {"type": "invoice_item_details", "invoice_item_details": {"proration": true, "subscription": "sub_1"}},
        "amount": -1500,
        "period": {"start": 1, "end": 2}, "pricing": {"price_details": {"price": "price_pro"}}});
    let extra = json!({"parent": {"type": "invoice_item_details", "invoice_item_details": {"proration": false, "subscription": null}},
        "amount": 700, "period": {"start": 1, "end": 2}, "pricing": null});
    let rest = line("price_agency", true, [3, 4]);
    let settled = with(&invoice(), &[("/lines/data", json!([item, rest, extra]))]);
    let Ok(Effect::Invoice { price_id: None, period_start: None, period_end: None, lines, .. }) = effect("invoice.paid", &settled) else {
        panic!("a period")
    };
    let charged: Vec<_> = lines.iter().map(|line| (line.price_id.as_str(), line.amount)).collect();
    assert_eq!(charged, [("price_pro", -1500), ("price_agency", 3000)]);
    // An event that leaves lines out cannot be applied.
    let cut = with(&settled, &[("/lines/has_more", json!(true))]);
    assert_eq!(effect("invoice.paid", &cut).unwrap_err().path, "/lines/has_more");
    let both = with(&invoice(), &[("/lines/data", json!([item, rest, line("price_agency", false, [5, 6])]))]);
    let Ok(Effect::Invoice { price_id: Some(price), period_start: Some(5), period_end: Some(6), .. }) = effect("invoice.paid", &both)
    else {
        panic!("no period")
    };
    assert_eq!(price, "price_agency");
    let manual = with(&invoice(), &[("/parent", Value::Null), ("/lines/data", json!([item]))]);
    let Ok(Effect::Invoice { subscription_id: None, price_id: None, .. }) = effect("invoice.paid", &manual) else {
        panic!("a subscription")
    };
}

#[test]
fn a_reversal_needs_the_invoice_of_its_payment() {
    let refunded = reversal("charge.refunded", &charge());
    assert_eq!(refunded.payment_intent, "pi_1");
    let read = serde_json::to_value(refunded.clone().of(None)).unwrap();
    let expected = json!({
        "kind": "reversal", "source": "pi_1", "charge": "ch_1", "refunded_cents": 10_000, "dispute_id": null, "disputed_cents": null,
        "dispute_won": false
    });
    assert_eq!(read, expected);
    assert_eq!(serde_json::to_value(refunded.of(Some("in_1".to_owned()))).unwrap()["source"], "in_1");

    let expanded = [("/charge", charge()), ("/payment_intent", json!({"id": "pi_1"}))];
    let disputed = reversal("charge.dispute.created", &with(&dispute_object(), &expanded));
    let expected = json!({
        "kind": "reversal", "source": "pi_1", "charge": "ch_1", "refunded_cents": null, "dispute_id": "du_1", "disputed_cents": 23_038,
        "dispute_won": false
    });
    assert_eq!(serde_json::to_value(disputed.of(None)).unwrap(), expected);

    // An inquiry moves no money; a dispute that was decided for us brings it back.
    let inquiry = with(&dispute_object(), &[("/status", json!("warning_needs_response"))]);
    assert_eq!(effect("charge.dispute.created", &inquiry), Ok(Effect::Ignored));
    let won = reversal("charge.dispute.closed", &with(&dispute_object(), &[("/status", json!("won"))])).of(None);
    assert_eq!(serde_json::to_value(won).unwrap()["dispute_won"], true);

    assert!(event("charge.refunded", &with(&charge(), &[("/currency", json!("jpy"))])).read().is_err());
    assert!(event("charge.dispute.created", &without(&dispute_object(), "/amount")).read().is_err());
}

#[test]
fn effects_have_the_names_that_the_database_expects() {
    assert_eq!(serde_json::to_value(Effect::Ignored).unwrap(), json!({"kind": "ignored"}));
    let customer = json!({"kind": "customer", "customer": "cus_1", "account_id": ACCOUNT, "made_by_us": false, "deleted": false});
    assert_eq!(serde_json::to_value(known_customer()).unwrap(), customer);
    let payment = json!({
        "kind": "payment", "session_id": "cs_test_a1", "payment_intent": "pi_1", "account_id": ACCOUNT, "credits": 250,
        "amount_cents": 23_038, "customer": "cus_1"
    });
    assert_eq!(serde_json::to_value(paid()).unwrap(), payment);
}
