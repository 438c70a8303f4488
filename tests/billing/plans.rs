//! Subscriptions, through webhook and queue: the credits of each plan, and when it ends.

use std::sync::Arc;

use crate::harness::{Account, Queue, Value, World, json, stack_test};

/// A subscription and its owner.
struct Subscriber {
    account: Account,
    customer: String,
    id: String,
}

impl Subscriber {
    async fn to(world: &Arc<World>, price: &str) -> Self {
        let account = world.account(0).await;
        let customer = account.customer().await;
        let subscription = world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": price })).await;
        let subscriber = Self { account, customer, id: subscription["id"].as_str().unwrap().to_owned() };
        subscriber.settled().await;
        subscriber
    }

    /// Changes the subscription, in a second of its own.
    async fn has(&self, what: &str, order: Value) -> Value {
        let world = &self.account.world;
        world.next_second().await;
        let answer = world.stripe(&format!("subscriptions/{}/{what}", self.id), order).await;
        self.settled().await;
        answer
    }

    async fn settled(&self) {
        self.account.world.until_recorded(&self.customer).await;
    }

    async fn grants(&self) -> Vec<i32> {
        self.account.amounts("subscription_renewal").await
    }

    /// Returns plan, status and whether the subscription ends with its period.
    async fn row(&self) -> Value {
        let sql = "SELECT jsonb_build_array(plan_id, status, cancel_at_period_end) FROM subscriptions WHERE stripe_subscription_id = $1";
        self.account.world.db.value(sql, &[&self.id]).await.unwrap()
    }

    async fn plan(&self) -> Value {
        self.account.get("/api/credits/balance").await.data(200)["plan"].clone()
    }
}

/// Changes the plan with an immediate invoice, as the portal is configured to do.
fn to(price: &str) -> Value {
    json!({ "price": price, "proration_behavior": "always_invoice" })
}

#[stack_test]
async fn a_larger_plan_grants_the_difference_when_it_is_paid(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_pro").await;
    assert_eq!((subscriber.grants().await, subscriber.plan().await), (vec![100], json!("pro")));
    subscriber.has("change", to("price_agency")).await;
    assert_eq!((subscriber.grants().await, subscriber.plan().await), (vec![100, 200], json!("agency")));
    // A step down and up again is settled with the credit of the step down: no payment, no credits.
    for (price, plan) in [("price_pro", "pro"), ("price_agency", "agency"), ("price_pro", "pro")] {
        subscriber.has("change", to(price)).await;
        assert_eq!((subscriber.grants().await, subscriber.plan().await), (vec![100, 200], json!(plan)));
    }
    let listed = subscriber.account.get("/api/credits/transactions").await.body;
    let descriptions: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|entry| &entry["description"]).take(2).collect();
    assert_eq!(descriptions, ["Plan change", "Monthly credits"]);
}

#[stack_test]
async fn an_unpaid_plan_grants_nothing(world: Arc<World>) {
    // A moment on the largest plan, within a period that was paid at the smallest plan's price.
    let subscriber = Subscriber::to(&world, "price_pro").await;
    subscriber.has("change", json!({ "price": "price_enterprise" })).await;
    assert_eq!((subscriber.grants().await, subscriber.plan().await), (vec![100], json!("enterprise")));
    subscriber.has("change", json!({ "price": "price_pro" })).await;
    subscriber.has("renew", json!({})).await;
    assert_eq!((subscriber.grants().await, subscriber.account.balance().await), (vec![100, 100], 200));
    // The next renewal invoices a step up together with its own period. Both are paid, and both grant credits.
    subscriber.has("change", json!({ "price": "price_agency" })).await;
    assert_eq!(subscriber.grants().await, [100, 100]);
    subscriber.has("renew", json!({})).await;
    assert_eq!(subscriber.grants().await, [100, 100, 500]);
}

#[stack_test]
async fn a_subscription_that_starts_without_payment_grants_nothing(world: Arc<World>) {
    // Active before its first payment settles, as with a debit that takes days. Then the debit fails.
    let account = world.account(0).await;
    let customer = account.customer().await;
    world.stripe("pause", json!({ "match": customer })).await;
    let subscription = world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_enterprise" })).await;
    let created = world.stripe_event("customer.subscription.created", subscription["id"].as_str().unwrap()).await;
    assert_eq!(world.deliver(&created, json!({})).await, [200]);
    world.until_empty(Queue::StripeEvents).await;
    assert!(world.is_recorded(&created).await);
    assert_eq!((account.balance().await, account.amounts("subscription_renewal").await), (0, vec![]));
    world.stripe("resume", json!({ "match": customer, "send_held": true })).await;
    world.until_recorded(&customer).await;
    assert_eq!(account.balance().await, 1500);
}

#[stack_test]
async fn a_refunded_upgrade_is_taken_back(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_pro").await;
    subscriber.has("change", to("price_enterprise")).await;
    assert_eq!(subscriber.grants().await, [100, 1400]);
    let charges = world.stripe_events(&subscriber.customer).await;
    let upgrade = charges.iter().rfind(|event| event["type"] == "charge.succeeded").unwrap()["data"]["object"]["payment_intent"].clone();
    world.stripe(&format!("payment_intents/{}/dispute", upgrade.as_str().unwrap()), json!({})).await;
    subscriber.settled().await;
    assert_eq!(subscriber.account.balance().await, 100);
}

#[stack_test]
async fn a_period_is_granted_once_in_any_order_of_its_events(world: Arc<World>) {
    for first in ["invoice.paid", "customer.subscription.updated"] {
        let subscriber = Subscriber::to(&world, "price_pro").await;
        world.stripe("pause", json!({ "match": subscriber.customer })).await;
        world.next_second().await;
        let renewed = world.stripe(&format!("subscriptions/{}/renew", subscriber.id), json!({})).await;
        let paid = world.stripe_event("invoice.paid", renewed["invoice"]["id"].as_str().unwrap()).await;
        let updated = world.stripe_event("customer.subscription.updated", &subscriber.id).await;
        let (early, late) = if first == "invoice.paid" { (paid, updated) } else { (updated, paid) };
        for event in [&early, &late, &early, &late] {
            assert_eq!(world.deliver(event, json!({})).await, [200]);
            world.until_empty(Queue::StripeEvents).await;
            assert!(world.is_recorded(event).await);
            // An unpaid period grants nothing, even while it is the current one.
            let paid = first == "invoice.paid" || world.is_recorded(&late).await;
            assert_eq!(subscriber.grants().await, if paid { vec![100, 100] } else { vec![100] });
        }
        world.stripe("resume", json!({ "match": subscriber.customer, "send_held": true })).await;
        subscriber.settled().await;
        assert_eq!(subscriber.account.balance().await, 200);
        let invoices: Option<i64> = world
            .db
            .value("SELECT count(*) FROM stripe_invoices WHERE account_id = $1::text::uuid AND status = 'paid'", &[&subscriber.account.id])
            .await;
        assert_eq!(invoices, Some(2));
    }
}

#[stack_test]
async fn a_plan_allows_its_business_profiles_until_it_ends(world: Arc<World>) {
    let create = |account: &Account| {
        let (account, name) = (account.clone(), world.handle("Business"));
        async move {
            let body = json!({ "business_name": name, "business_context_pack": { "target_audience": "Everybody" } });
            account.post("/api/business-profiles", &body).await
        }
    };
    let free = world.account(0).await;
    create(&free).await.problem(403, "PLAN_LIMIT");
    let subscriber = Subscriber::to(&world, "price_pro").await;
    create(&subscriber.account).await.data(201);
    create(&subscriber.account).await.data(201);
    let refused = create(&subscriber.account).await.problem(403, "PLAN_LIMIT");
    assert_eq!(refused["details"], json!({ "plan": "pro", "limit": 3 }));
    subscriber.has("change", json!({ "price": "price_enterprise" })).await;
    create(&subscriber.account).await.data(201);
    subscriber.has("cancel", json!({ "at_period_end": true })).await;
    assert_eq!(subscriber.row().await, json!(["enterprise", "active", true]));
    create(&subscriber.account).await.data(201);
    subscriber.has("cancel", json!({})).await;
    assert_eq!((subscriber.row().await, subscriber.plan().await), (json!(["enterprise", "canceled", true]), json!("free")));
    let refused = create(&subscriber.account).await.problem(403, "PLAN_LIMIT");
    assert_eq!(refused["details"], json!({ "plan": "free", "limit": 1 }));
    // Granted credits stay.
    assert_eq!(subscriber.account.balance().await, 100);
}

#[stack_test]
async fn a_failed_payment_grants_nothing_until_it_succeeds(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_pro").await;
    let failed = subscriber.has("renew", json!({ "fail": true })).await;
    assert_eq!((subscriber.row().await, subscriber.grants().await), (json!(["pro", "past_due", false]), vec![100]));
    // The plan continues while Stripe retries.
    assert_eq!(subscriber.plan().await, "pro");
    world.next_second().await;
    let invoice = failed["invoice"]["id"].as_str().unwrap();
    world.stripe(&format!("invoices/{invoice}/pay"), json!({})).await;
    subscriber.settled().await;
    assert_eq!((subscriber.row().await, subscriber.grants().await), (json!(["pro", "active", false]), vec![100, 100]));
    let sql = "SELECT jsonb_build_array(status, amount_due, amount_paid) FROM stripe_invoices WHERE stripe_invoice_id = $1";
    assert_eq!(world.db.value::<Value>(sql, &[&invoice]).await, Some(json!(["paid", 3000, 3000])));
}

/// The customer portal ends a subscription by `cancel_at` alone, because subscriptions have flexible billing.
#[stack_test]
async fn a_subscription_that_the_portal_ends_is_shown_as_ending(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_pro").await;
    let ending = subscriber.has("cancel", json!({ "at_period_end": true })).await;
    assert_eq!((&ending["cancel_at_period_end"], ending["cancel_at"].is_i64()), (&json!(false), true), "as Stripe does it");
    assert_eq!(subscriber.row().await, json!(["pro", "active", true]));
    let sql = "SELECT jsonb_build_array(cancel_at = current_period_end, extract(epoch FROM cancel_at)::bigint) FROM subscriptions WHERE stripe_subscription_id = $1";
    assert_eq!(world.db.value::<Value>(sql, &[&subscriber.id]).await, Some(json!([true, ending["cancel_at"]])));
    // One that ends in a later period does not end with this one.
    let mut event =
        world.stripe_events(&subscriber.id).await.into_iter().rfind(|event| event["type"] == "customer.subscription.updated").unwrap();
    event["id"] = json!(format!("evt_later_{}", subscriber.id));
    event["created"] = json!(event["created"].as_i64().unwrap() + 5);
    event["data"]["object"]["cancel_at"] = json!(ending["cancel_at"].as_i64().unwrap() + 86_400 * 40);
    world.send_event(&event).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(subscriber.row().await, json!(["pro", "active", false]));
    assert_eq!(world.db.value::<Value>(sql, &[&subscriber.id]).await.unwrap()[0], json!(false));
}

#[stack_test]
async fn a_paused_subscription_has_no_plan_until_it_is_resumed(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_pro").await;
    subscriber.has("pause", json!({})).await;
    assert_eq!((subscriber.row().await, subscriber.plan().await), (json!(["pro", "paused", false]), json!("free")));
    subscriber.has("resume", json!({})).await;
    assert_eq!((subscriber.row().await, subscriber.plan().await), (json!(["pro", "active", false]), json!("pro")));
}

#[stack_test]
async fn an_invoice_that_is_given_up_is_seen(world: Arc<World>) {
    let status = |invoice: String| {
        let world = world.clone();
        async move {
            let sql = "SELECT status FROM stripe_invoices WHERE stripe_invoice_id = $1";
            world.db.value::<String>(sql, &[&invoice]).await.unwrap()
        }
    };
    for (control, expected) in [("void", "void"), ("mark_uncollectible", "uncollectible")] {
        let subscriber = Subscriber::to(&world, "price_pro").await;
        let failed = subscriber.has("renew", json!({ "fail": true })).await;
        let invoice = failed["invoice"]["id"].as_str().unwrap().to_owned();
        assert_eq!(status(invoice.clone()).await, "open");
        world.next_second().await;
        world.stripe(&format!("invoices/{invoice}/{control}"), json!({})).await;
        subscriber.settled().await;
        assert_eq!(status(invoice.clone()).await, expected);
        // The failed payment, redelivered late, does not open it again.
        let mut event = world.stripe_event("invoice.payment_failed", &invoice).await;
        event["id"] = json!(format!("evt_late_{invoice}"));
        world.send_event(&event).await;
        world.until_empty(Queue::StripeEvents).await;
        assert_eq!((status(invoice).await.as_str(), subscriber.grants().await), (expected, vec![100]));
    }
}

/// A subscription may have another product beside its plan. Its items and invoice lines come first here.
#[stack_test]
async fn another_product_on_the_subscription_changes_no_credits(world: Arc<World>) {
    let add_on = world.stripe_price(500).await;
    let account = world.account(0).await;
    let customer = account.customer().await;
    let order = json!({ "price": "price_pro", "add_on": add_on });
    let subscription = world.stripe(&format!("customers/{customer}/subscribe"), order).await;
    let subscriber = Subscriber { account, customer, id: subscription["id"].as_str().unwrap().to_owned() };
    subscriber.settled().await;
    assert_eq!(subscription["items"]["data"][0]["price"]["id"], json!(add_on));
    assert_eq!((subscriber.row().await, subscriber.grants().await), (json!(["pro", "active", false]), vec![100]));
    subscriber.has("renew", json!({})).await;
    assert_eq!((subscriber.grants().await, subscriber.account.balance().await), (vec![100, 100], 200));
    // A subscription of the other product alone, by the same customer, is not about us.
    world.stripe(&format!("customers/{}/subscribe", subscriber.customer), json!({ "price": add_on })).await;
    subscriber.settled().await;
    let sql = "SELECT count(*) FROM stripe_invoices WHERE account_id = $1::text::uuid";
    assert_eq!((subscriber.grants().await, world.db.value::<i64>(sql, &[&subscriber.account.id]).await), (vec![100, 100], Some(2)));
    assert_eq!(subscriber.plan().await, "pro");
}

#[stack_test]
async fn an_invoice_with_a_negative_total_grants_nothing(world: Arc<World>) {
    let price = |plan: &'static str| {
        let world = &world;
        async move { world.db.value::<String>("SELECT stripe_price_id FROM plans WHERE id = $1", &[&plan]).await.unwrap() }
    };
    let (agency, enterprise) = (price("agency").await, price("enterprise").await);
    // Four of the smaller plan are exchanged for one of the larger, whose credits are cheaper.
    let exchange = |amount: i64| {
        let lines = json!([{ "price_id": agency, "amount": -32_000 }, { "price_id": enterprise, "amount": amount }]);
        let total = amount - 32_000;
        json!({ "invoice_id": "in_1", "currency": "usd", "lines": lines, "total": total, "amount_paid": total.max(0) })
    };
    let worth = |invoice: Value| {
        let world = &world;
        async move { world.db.value::<i32>("SELECT invoice_credits($1)", &[&invoice]).await.unwrap() }
    };
    assert_eq!(worth(exchange(30_000)).await, 0);
    assert!(worth(exchange(40_000)).await > 0);
}

#[stack_test]
async fn a_free_account_stays_free_beside_its_subscription(world: Arc<World>) {
    let subscriber = Subscriber::to(&world, "price_agency").await;
    let sql = "SELECT jsonb_agg(jsonb_build_array(plan_id, status) ORDER BY plan_id) FROM subscriptions WHERE account_id = $1::text::uuid";
    let rows: Value = world.db.value(sql, &[&subscriber.account.id]).await.unwrap();
    assert_eq!(rows, json!([["agency", "active"], ["free", "active"]]));
    // A second subscription of the same customer is separate, and the larger plan counts.
    world.stripe(&format!("customers/{}/subscribe", subscriber.customer), json!({ "price": "price_pro" })).await;
    subscriber.settled().await;
    assert_eq!((subscriber.plan().await, subscriber.grants().await), (json!("agency"), vec![300, 100]));
}
