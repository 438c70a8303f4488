//! Events in the layout of the pinned version, shortened to what surrounds the fields that we read.

use oslira_domain::AccountId;
use serde_json::json;

use super::*;

mod reversals;

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

fn paid() -> Effect {
    Effect::Payment {
        session_id: "cs_test_a1".to_owned(),
        payment_intent: Some("pi_1".to_owned()),
        account_id: account(),
        credits: 250,
        amount_cents: 23_038,
        currency: "usd".to_owned(),
        priced_in: "usd".to_owned(),
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
}

#[test]
fn a_customer_that_was_created_for_an_account_names_it() {
    let object = json!({"id": "cus_1", "object": "customer", "email": null, "metadata": { "account_id": ACCOUNT }});
    for kind in ["customer.created", "customer.updated"] {
        let made = |deleted| Effect::Customer { customer: "cus_1".to_owned(), account_id: account(), made_by_us: true, deleted };
        assert_eq!(effect(kind, &object), Ok(made(false)));
        assert_eq!(effect("customer.deleted", &object), Ok(made(true)));
    }
    // Another system's customer.
    assert_eq!(effect("customer.created", &with(&object, &[("/metadata/account_id", json!("12345"))])), Ok(Effect::Ignored));
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
        ("/client_reference_id", json!(other)),
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
    for (path, value) in [("/metadata/account_id", json!("x")), ("/metadata/account_id", Value::Null)] {
        assert_eq!(effect("checkout.session.completed", &with(&session(), &[(path, value)])), Ok(Effect::Ignored), "another system's");
    }
    // An absent reference is no contradiction.
    assert_eq!(effect("checkout.session.completed", &with(&session(), &[("/client_reference_id", Value::Null)])), Ok(paid()));
}

#[test]
fn a_price_that_was_presented_in_another_currency_is_ours() {
    let eur = [("/currency", json!("eur")), ("/amount_subtotal", json!(21_500)), ("/amount_total", json!(21_500))];
    let converted =
        |subtotal: i64| json!({ "amount_subtotal": subtotal, "amount_total": subtotal, "fx_rate": "0.93", "source_currency": "usd" });
    let presented = json!({ "presentment_amount": 21_500, "presentment_currency": "eur" });
    let with_field = |base: &Value, path: &str, value: Value| with(base, &[(path, value)]);
    let (dollars, euros) = (session(), with(&session(), &eur));
    for (purchase, amount, currency, priced_in) in [
        // What Stripe does since basil, and did before.
        (with_field(&dollars, "/presentment_details", presented.clone()), 23_038, "usd", "usd"),
        (with_field(&euros, "/currency_conversion", converted(23_038)), 21_500, "eur", "usd"),
        (with_field(&euros, "/presentment_details", presented.clone()), 21_500, "eur", "usd"),
        (with_field(&dollars, "/currency", json!("USD")), 23_038, "usd", "usd"),
        // The database knows whether the account is ours.
        (euros.clone(), 21_500, "eur", "eur"),
    ] {
        let Ok(Effect::Payment { amount_cents, currency: paid_in, priced_in: price, credits, .. }) =
            effect("checkout.session.completed", &purchase)
        else {
            panic!("no payment: {purchase}")
        };
        assert_eq!((amount_cents, paid_in.as_str(), price.as_str(), credits), (amount, currency, priced_in, 250));
    }
    let other = with_field(&euros, "/currency_conversion", converted(100));
    assert_eq!(effect("checkout.session.completed", &other).unwrap_err().path, "/amount_subtotal");
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
    let item = json!({ "price_id": "price_pro", "period_start": 1_795_000_000, "period_end": 1_797_592_000 });
    let expected = |deleted: bool| {
        json!({
            "kind": "subscription", "subscription_id": "sub_1", "customer": "cus_1", "account_id": null, "names_other_account": false,
            "status": "active", "items": [item], "canceled_at": null, "cancel_at": null, "cancel_at_period_end": false, "deleted": deleted
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
            ("/cancel_at", json!(1_797_592_000)),
            ("/items/data/0/price", json!("price_pro")),
        ],
    );
    let mut read = expected(false);
    read["account_id"] = json!(ACCOUNT);
    read["canceled_at"] = json!(1_795_300_000);
    read["cancel_at"] = json!(1_797_592_000);
    assert_eq!(serde_json::to_value(effect("customer.subscription.updated", &ending).unwrap()).unwrap(), read);
    // Another product beside the plan, a customer of Accounts v2, and another system's metadata.
    let mut shared = with(&subscription(), &[("/customer", Value::Null), ("/metadata/account_id", json!("12345"))]);
    let plan = shared["items"]["data"][0].clone();
    shared["items"]["data"] = json!([with(&plan, &[("/price", json!("price_addon"))]), plan]);
    let read = serde_json::to_value(effect("customer.subscription.created", &shared).unwrap()).unwrap();
    assert_eq!((&read["customer"], &read["account_id"], &read["names_other_account"]), (&json!(null), &json!(null), &json!(true)));
    assert_eq!(read["items"], json!([with(&item, &[("/price_id", json!("price_addon"))]), item]));
}

#[test]
fn what_happens_in_a_connected_account_is_ignored() {
    let mut event = json!({
        "id": "evt_1", "object": "event", "type": "invoice.paid", "created": 1, "account": "acct_1", "data": { "object": invoice() }
    });
    let read = |event: &Value| Event::parse(event.to_string().as_bytes()).unwrap().read();
    assert_eq!(read(&event), Ok(Reading::Effect(Effect::Ignored)));
    event["account"] = Value::Null;
    assert_ne!(read(&event), Ok(Reading::Effect(Effect::Ignored)));
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
    let charged = json!({ "price_id": "price_pro", "amount": 3000, "period_start": 1_797_592_000, "period_end": 1_800_270_400 });
    let expected = json!({
        "kind": "invoice", "invoice_id": "in_1", "customer": "cus_1", "subscription_id": "sub_1", "status": "paid", "amount_due": 3000,
        "amount_paid": 3000, "credit_notes": 0, "from_balance": 0, "returned_earlier": 0, "currency": "usd", "lines": [charged], "lines_omitted": false, "total": 3000, "account_id": null,
        "names_other_account": false, "hosted_invoice_url": "https://invoice.stripe.com/i/1", "billing_reason": "subscription_cycle",
        "created": 1_797_592_000
    });
    assert_eq!(read, expected);
    let unpaid = with(&invoice(), &[("/amount_paid", json!(0)), ("/status", json!("open"))]);
    for (word, status) in [("payment_failed", "open"), ("voided", "void"), ("marked_uncollectible", "uncollectible")] {
        let read = serde_json::to_value(effect(&format!("invoice.{word}"), &unpaid).unwrap()).unwrap();
        assert_eq!((&read["status"], &read["amount_due"], &read["amount_paid"]), (&json!(status), &json!(3000), &json!(0)), "{word}");
    }
}

#[test]
fn the_origin_of_a_balance_that_paid_an_invoice_is_an_open_question() {
    let read = |kind: &str, changes: &[(&str, Value)]| event(kind, &with(&invoice(), changes)).read().unwrap();
    // Total, credit notes, amount due: paid from the balance in whole or in part, with a credit note, by nothing else, and beside a debt.
    for (total, notes, due, expected) in [(3000, 0, 0, 3000), (3000, 0, 500, 2500), (3000, 1000, 500, 1500)] {
        let changes = [("/total", json!(total)), ("/pre_payment_credit_notes_amount", json!(notes)), ("/amount_due", json!(due))];
        let Reading::FromBalance { customer, invoice_id, effect } = read("invoice.paid", &changes) else { panic!("{changes:?}") };
        assert_eq!((customer.as_str(), invoice_id.as_str()), ("cus_1", "in_1"));
        let effect = serde_json::to_value(effect).unwrap();
        assert_eq!(
            (&effect["from_balance"], &effect["returned_earlier"], &effect["credit_notes"]),
            (&json!(expected), &json!(null), &json!(notes))
        );
        // An unpaid invoice grants nothing, so the question does not arise. A customer of Accounts v2 has no balance that can be read.
        assert!(matches!(read("invoice.payment_failed", &changes), Reading::Effect(_)));
        let mut nameless = changes.to_vec();
        nameless.push(("/customer", Value::Null));
        let unknown = read("invoice.paid", &nameless);
        assert!(matches!(unknown, Reading::Effect(Effect::Invoice { returned_earlier: None, .. })), "{unknown:?}");
    }
    for changes in [
        [("/amount_paid", json!(0)), ("/amount_due", json!(3000))], // paid outside of Stripe
        [("/amount_paid", json!(3500)), ("/amount_due", json!(3500))],
        [("/total", json!(-500)), ("/amount_due", json!(0))],
        [("/total", json!(0)), ("/amount_due", json!(0))],
        [("/pre_payment_credit_notes_amount", json!(3000)), ("/amount_due", json!(0))],
    ] {
        let read = read("invoice.paid", &changes);
        assert!(matches!(read, Reading::Effect(Effect::Invoice { from_balance: 0, returned_earlier: Some(0), .. })), "{changes:?}");
    }
}

#[test]
fn prorations_have_no_period_and_other_lines_do_not_count() {
    let item = json!({"parent": {"type": "invoice_item_details", "invoice_item_details": {"proration": true, "subscription": "sub_1"}},
        "amount": -1500,
        "period": {"start": 1, "end": 2}, "pricing": {"price_details": {"price": "price_pro"}}});
    let extra = json!({"parent": {"type": "invoice_item_details", "invoice_item_details": {"proration": false, "subscription": null}},
        "amount": 700, "period": {"start": 1, "end": 2}, "pricing": null});
    let rest = line("price_agency", true, [3, 4]);
    let unpriced = with(&line("x", false, [7, 8]), &[("/pricing", Value::Null)]);
    let all = with(&invoice(), &[("/lines/data", json!([item, rest, extra, unpriced, line("price_addon", false, [5, 6])]))]);
    let lines = |invoice: &Value| serde_json::to_value(effect("invoice.paid", invoice).unwrap()).unwrap()["lines"].clone();
    let expected = json!([
        { "price_id": "price_pro", "amount": -1500, "period_start": null, "period_end": null },
        { "price_id": "price_agency", "amount": 3000, "period_start": null, "period_end": null },
        { "price_id": "price_addon", "amount": 3000, "period_start": 5, "period_end": 6 },
    ]);
    assert_eq!(lines(&all), expected);
    let Ok(Effect::Invoice { lines_omitted: true, .. }) = effect("invoice.paid", &with(&all, &[("/lines/has_more", json!(true))])) else {
        panic!("lines are left out")
    };
    let manual = with(&invoice(), &[("/parent", Value::Null), ("/lines/data", json!([item]))]);
    let Ok(Effect::Invoice { subscription_id: None, .. }) = effect("invoice.paid", &manual) else { panic!("a subscription") };
}

#[test]
fn effects_have_the_names_that_the_database_expects() {
    assert_eq!(serde_json::to_value(Effect::Ignored).unwrap(), json!({"kind": "ignored"}));
    let customer = json!({"kind": "customer", "customer": "cus_1", "account_id": ACCOUNT, "made_by_us": false, "deleted": false});
    assert_eq!(serde_json::to_value(known_customer()).unwrap(), customer);
    let payment = json!({
        "kind": "payment", "session_id": "cs_test_a1", "payment_intent": "pi_1", "account_id": ACCOUNT, "credits": 250,
        "amount_cents": 23_038, "currency": "usd", "priced_in": "usd", "customer": "cus_1"
    });
    assert_eq!(serde_json::to_value(paid()).unwrap(), payment);
}
