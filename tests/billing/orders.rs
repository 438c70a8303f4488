//! The events of a subscription in a thousand orders with duplicates. The final state does not depend on the order.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use oslira_credential::Credential;
use oslira_db::{AdminDb, DatabaseLogin, DbError};
use oslira_vendors::stripe::{Effect, Event, Stripe, StripeSecret};

use crate::harness::{Account, Queue, Random, Value, World, json, stack_test};

const ORDERS: usize = 1000;
/// The number of connections that apply events concurrently.
const SESSIONS: usize = 4;
/// The final balance: the signup bonus, a period on the smaller plan, the change to the larger one, and two periods on that. Half of the
/// first invoice is refunded (one refund fails and is repeated), all of the third is lost in a dispute, and one about the fourth is won.
const CREDITS_LEFT: i32 = 25 + 100 + 200 + 2 * 300 - 50 - 300;

/// Creates a subscription at Stripe and simulates it from the first month to its end without delivering events. Returns its customer.
async fn simulate_subscription(world: &World, account: &Account) -> String {
    world.stripe("pause", json!({ "match": account.id })).await;
    let customer = account.unrecorded_customer().await;
    world.stripe("pause", json!({ "match": customer })).await;
    let subscription = world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
    let subscription = format!("subscriptions/{}", subscription["id"].as_str().unwrap());
    world.next_second().await;
    world.stripe(&format!("{subscription}/change"), json!({ "price": "price_agency", "proration_behavior": "always_invoice" })).await;
    world.next_second().await;
    world.stripe(&format!("{subscription}/renew"), json!({})).await;
    world.next_second().await;
    let failed = world.stripe(&format!("{subscription}/renew"), json!({ "fail": true })).await;
    world.next_second().await;
    world.stripe(&format!("invoices/{}/pay", failed["invoice"]["id"].as_str().unwrap()), json!({})).await;
    world.next_second().await;
    let payments: Vec<String> = world
        .stripe_events(&customer)
        .await
        .into_iter()
        .filter(|event| event["type"] == "charge.succeeded")
        .map(|event| format!("payment_intents/{}", event["data"]["object"]["payment_intent"].as_str().unwrap()))
        .collect();
    assert_eq!(payments.len(), 4);
    world.stripe(&format!("{}/refund", payments[0]), json!({ "amount": 1000 })).await;
    let failed = world.stripe(&format!("{}/refund", payments[0]), json!({ "amount": 500 })).await;
    world.stripe(&format!("refunds/{}/fail", failed["id"].as_str().unwrap()), json!({})).await;
    world.stripe(&format!("{}/refund", payments[0]), json!({ "amount": 500 })).await;
    for (payment, won) in [(&payments[2], false), (&payments[3], true)] {
        let dispute = world.stripe(&format!("{payment}/dispute"), json!({})).await;
        world.stripe(&format!("disputes/{}/close", dispute["id"].as_str().unwrap()), json!({ "won": won })).await;
    }
    world.stripe(&format!("{subscription}/cancel"), json!({ "at_period_end": true })).await;
    world.stripe(&format!("{subscription}/cancel"), json!({})).await;
    customer
}

/// Returns the events that have an effect, as the consumer passes them to the database, the customer's creation first.
async fn entries(world: &World, customer: &str) -> Vec<Value> {
    let key = Credential::fixed(StripeSecret { api_key: "sk_test_sandbox".into() });
    let stripe = Stripe::new(oslira_vendors::http_client().unwrap(), format!("{}/stripe", world.stack.info().sandbox), key);
    let mut entries = Vec::new();
    for event in world.stripe_events(customer).await {
        let event = Event::parse(event.to_string().as_bytes()).unwrap();
        let effect = stripe.complete(event.read().unwrap()).await.unwrap();
        if let Effect::Reversal { source, .. } = &effect {
            assert!(source.starts_with("in_"), "the payment of an invoice");
        }
        if effect != Effect::Ignored {
            entries.push(json!({
                "event_id": event.id, "event_type": event.kind, "created": event.created, "api_version": event.api_version, "effect": effect
            }));
        }
    }
    let count = |kind: &str| entries.iter().filter(|entry| entry["event_type"] == kind).count();
    assert_eq!(entries[0]["event_type"], "customer.created");
    assert_eq!(
        [
            "customer.subscription.created",
            "invoice.paid",
            "invoice.payment_failed",
            "charge.refunded",
            "refund.failed",
            "charge.dispute.created",
            "charge.dispute.closed",
            "customer.subscription.deleted"
        ]
        .map(count),
        [1, 4, 1, 3, 1, 2, 2, 1]
    );
    assert!(count("customer.subscription.updated") >= 5);
    entries
}

/// Returns the same events for another account. Every id of Stripe's gets a mark, which keeps their order.
fn of_another(entries: &[Value], owner: &Account, account: &str, mark: &str) -> Vec<Value> {
    let mut text = Value::Array(entries.to_vec()).to_string().replace(&owner.id, account);
    for kind in ["evt", "cus", "sub", "in", "pi", "ch", "du", "re"] {
        text = text.replace(&format!("\"{kind}_"), &format!("\"{kind}_{mark}"));
    }
    serde_json::from_str(&text).unwrap()
}

/// Creates empty accounts.
async fn accounts(world: &World, count: usize) -> Vec<String> {
    let sql = "WITH people AS (INSERT INTO auth.users (id, email, email_confirmed_at)
                   SELECT id, 'order-' || id || '@example.com', now() FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) n RETURNING id)
               SELECT id FROM people";
    let people: Vec<uuid::Uuid> = world.db.rows(sql, &[&i32::try_from(count).unwrap()]).await.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT id::text FROM accounts WHERE owner_id = ANY ($1)";
    let accounts: Vec<String> = world.db.rows(sql, &[&people]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(accounts.len(), count);
    accounts
}

/// Returns the consumer's sessions of the database.
async fn sessions(world: &World) -> Vec<AdminDb> {
    let secret = world.secrets.get_secret_value().secret_id("oslira/local/database-admin").send().await.unwrap();
    let login: DatabaseLogin = serde_json::from_str(&secret.secret_string.unwrap()).unwrap();
    let credential = Credential::fixed(login);
    (0..SESSIONS).map(|_| AdminDb::persistent(credential.clone())).collect()
}

/// Applies an event as the consumer does, and returns whether it was applied. It is not if an earlier event is missing.
async fn apply(db: &AdminDb, entry: &Value) -> bool {
    for _ in 0..5 {
        match db.apply_stripe_event(entry).await {
            Ok(_) => return true,
            Err(DbError::Rule { code, .. }) if code == "OS404" => return false,
            Err(DbError::Conflict(_)) => {}
            Err(error) => panic!("{entry}: {error}"),
        }
    }
    panic!("five conflicts");
}

/// Applies events one after the other and repeats those that were too early. Returns the number of calls.
async fn apply_in_order(db: &AdminDb, mut entries: Vec<Value>) -> usize {
    let mut calls = 0;
    while !entries.is_empty() {
        let mut early = Vec::new();
        for entry in entries {
            calls += 1;
            if !apply(db, &entry).await {
                early.push(entry);
            }
        }
        entries = early;
    }
    calls
}

/// Applies events on all connections concurrently. Returns the number of calls.
async fn apply_concurrently(sessions: &[AdminDb], mut entries: Vec<Value>) -> usize {
    let mut calls = 0;
    while !entries.is_empty() {
        calls += entries.len();
        let applying = entries.into_iter().enumerate().map(|(number, entry)| async move {
            let done = apply(&sessions[number % SESSIONS], &entry).await;
            (!done).then_some(entry)
        });
        entries = futures::stream::iter(applying).buffer_unordered(SESSIONS).filter_map(futures::future::ready).collect().await;
    }
    calls
}

/// Returns the state after all events, without our own times and ids.
async fn end_state(world: &World, account: &str, mark: &str) -> Value {
    let sql = "SELECT jsonb_build_object(
        'customer', (SELECT stripe_customer_id FROM accounts WHERE id = p.id),
        'subscriptions', (SELECT jsonb_agg(to_jsonb(s) - '{id,account_id,created_at,updated_at}'::text[]) FROM subscriptions s
                          WHERE s.account_id = p.id AND s.stripe_subscription_id IS NOT NULL),
        'plan', (SELECT id FROM account_plan(p.id)),
        'customers', (SELECT jsonb_agg(to_jsonb(c) - '{account_id,created_at}'::text[]) FROM stripe_customers c WHERE c.account_id = p.id),
        'periods', (SELECT jsonb_agg(to_jsonb(s) - 'account_id' ORDER BY period_start) FROM subscription_periods s WHERE s.account_id = p.id),
        'invoices', (SELECT jsonb_agg(to_jsonb(i) - '{account_id,created_at}'::text[] ORDER BY stripe_invoice_id) FROM stripe_invoices i
                     WHERE i.account_id = p.id),
        'payments', (SELECT jsonb_agg(to_jsonb(s) - '{account_id,created_at,settlements}'::text[] ORDER BY source) FROM stripe_payments s WHERE s.account_id = p.id),
        'events', (SELECT jsonb_agg(stripe_event_id ORDER BY stripe_event_id) FROM webhook_events e
                   WHERE e.account_id = p.id OR e.effect ->> 'kind' = 'reversal' AND position($2 in e.stripe_event_id) > 0 AND $2 <> ''),
        'sums', (SELECT jsonb_object_agg(kind, total) FROM (SELECT sum(amount) AS total,
                     CASE WHEN transaction_type IN ('chargeback', 'admin_grant') THEN 'reversals' ELSE transaction_type END AS kind
                 FROM credit_ledger WHERE account_id = p.id GROUP BY kind) l),
        'balance', (SELECT current_balance FROM credit_balances WHERE account_id = p.id))
        FROM (SELECT $1::text::uuid AS id) p";
    let state: Value = world.db.value(sql, &[&account, &mark]).await.unwrap();
    if mark.is_empty() { state } else { serde_json::from_str(&state.to_string().replace(mark, "")).unwrap() }
}

fn assert_final_state(state: &Value) {
    assert_eq!(state["balance"], json!(CREDITS_LEFT), "{state}");
    assert_eq!(state["sums"], json!({ "signup_bonus": 25, "subscription_renewal": 900, "reversals": -350 }));
    let subscriptions = state["subscriptions"].as_array().unwrap();
    assert_eq!(subscriptions.len(), 1);
    let subscription = &subscriptions[0];
    assert_eq!(
        json!([subscription["plan_id"], subscription["status"], subscription["cancel_at_period_end"], state["plan"]]),
        json!(["agency", "canceled", true, "free"])
    );
    let periods: Vec<Value> =
        state["periods"].as_array().unwrap().iter().map(|period| json!([period["level"], period["paid"], period["granted"]])).collect();
    // The change of plans has an invoice of its own.
    assert_eq!(periods, [json!([100, true, 100]), json!([300, true, 300]), json!([300, true, 300])]);
    let paid = state["invoices"].as_array().unwrap().iter().filter(|invoice| invoice["status"] == "paid").count();
    assert_eq!((paid, state["invoices"].as_array().unwrap().len()), (4, 4));
    let mut taken: Vec<Value> =
        state["payments"].as_array().unwrap().iter().map(|payment| json!([payment["taken"], payment["shortfall"]])).collect();
    taken.sort_by_key(|pair| pair[0].as_i64());
    assert_eq!(json!(taken), json!([[0, 0], [0, 0], [50, 0], [300, 0]]));
}

#[stack_test]
async fn a_thousand_orders_of_events_have_one_final_state(world: Arc<World>) {
    let seed: u64 = std::env::var("OSLIRA_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(random_seed);
    println!("OSLIRA_TEST_SEED={seed}");
    let owner = world.account(0).await;
    let customer = simulate_subscription(&world, &owner).await;
    let events = entries(&world, &customer).await;
    let (accounts, sessions) = (accounts(&world, ORDERS + 1).await, sessions(&world).await);

    // The order of creation gives the state that all others must reach.
    let (first, others) = accounts.split_first().unwrap();
    apply_in_order(&sessions[0], of_another(&events, &owner, first, "o_")).await;
    let expected = end_state(&world, first, "o_").await;
    assert_final_state(&expected);

    let started = Instant::now();
    let mut orders = Vec::new();
    for (number, account) in others.iter().enumerate() {
        let (world, sessions, expected, events, owner) = (&world, &sessions, &expected, &events, &owner);
        orders.push(async move {
            let mut random = Random::new(seed ^ (number as u64) << 32);
            let mark = format!("o{number}o_");
            let mut entries = of_another(events, owner, account, &mark);
            let customer = entries.remove(0);
            let copies: Vec<Value> = entries.iter().filter(|_| random.below(2) == 0).cloned().collect();
            entries.extend(copies);
            random.shuffle(&mut entries);
            // A late event of the customer costs many calls, so only every tenth order has one.
            let at = if number % 10 == 0 { random.below(entries.len()) } else { 0 };
            entries.insert(at, customer);
            let calls = if number % 10 == 5 {
                apply_concurrently(sessions, entries).await
            } else {
                apply_in_order(&sessions[number % SESSIONS], entries).await
            };
            let state = end_state(world, account, &mark).await;
            assert_eq!(&state, expected, "order {number} of seed {seed}");
            calls
        });
    }
    let calls: usize = futures::stream::iter(orders).buffer_unordered(SESSIONS).collect::<Vec<_>>().await.into_iter().sum();
    let took = started.elapsed();
    println!("{ORDERS} orders of {} events, {calls} calls in {took:?}, {} a second", events.len(), calls as u128 * 1000 / took.as_millis());
    world.stripe("resume", json!({ "match": owner.id })).await;
    world.stripe("resume", json!({ "match": customer })).await;
}

fn random_seed() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

#[stack_test(alone)]
async fn events_in_random_order_pass_webhook_and_queue(world: Arc<World>) {
    let seed = random_seed();
    println!("seed {seed}");
    let account = world.account(25).await;
    let customer = simulate_subscription(&world, &account).await;
    world.set_visibility_timeout(Queue::StripeEvents, 2).await;
    let mut random = Random::new(seed);
    let mut events = world.stripe_events(&customer).await;
    let first = events.remove(0);
    assert_eq!(world.deliver(&first, json!({})).await, [200]);
    world.until_empty(Queue::StripeEvents).await;
    random.shuffle(&mut events);
    for event in &events {
        let times = 1 + random.below(3);
        let options = json!({ "times": times, "concurrent": random.below(2) == 0 });
        assert_eq!(world.deliver(event, options).await, vec![json!(200); times]);
    }
    world.until_recorded(&customer).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(world.messages_in(Queue::StripeEventsDeadLetters).await, 0);
    assert_final_state(&end_state(&world, &account.id, "").await);
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
    world.stripe("resume", json!({ "match": account.id })).await;
    world.stripe("resume", json!({ "match": customer })).await;
}
