//! The tables and functions of billing, accessed by the roles that must not reach them.

use std::sync::Arc;

use crate::harness::{Account, World, connect, json, stack_test};

async fn as_role(world: &World, role: &str, account: &Account) -> tokio_postgres::Client {
    let client = world.db.connect().await;
    let user = account.owner().await;
    let sql = format!("SELECT set_config('request.jwt.claims', '{{\"sub\":\"{user}\",\"role\":\"{role}\"}}', false); SET ROLE {role}");
    client.batch_execute(&sql).await.unwrap();
    client
}

async fn assert_forbidden(client: &tokio_postgres::Client, role: &str, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.as_db_error().map(|error| error.code().code()), Some("42501"), "{role}: {sql}: {error}");
}

#[stack_test]
async fn users_reach_no_table_of_stripe_but_their_invoices(world: Arc<World>) {
    let (account, other) = (world.account(0).await, world.account(0).await);
    for subscriber in [&account, &other] {
        let customer = subscriber.customer().await;
        world.stripe(&format!("customers/{customer}/subscribe"), json!({ "price": "price_pro" })).await;
        world.until_recorded(&customer).await;
    }
    let id = &account.id;
    let event = json!({
        "event_id": "evt_forged", "event_type": "checkout.session.completed", "created": 1, "api_version": null,
        "effect": { "kind": "payment", "session_id": "cs_forged", "payment_intent": null, "account_id": id, "credits": 1000, "amount_cents": 1, "customer": null }
    });
    let attacks = [
        "SELECT * FROM webhook_events".to_owned(),
        "SELECT * FROM stripe_payments".to_owned(),
        "SELECT * FROM subscription_periods".to_owned(),
        "INSERT INTO webhook_events (stripe_event_id, event_type, event_created, effect, outcome) VALUES ('evt_x', 'x', now(), '{}', 'applied')"
            .to_owned(),
        "DELETE FROM webhook_events".to_owned(),
        format!("INSERT INTO stripe_payments (source, account_id, credits, amount_cents) VALUES ('pi_x', '{id}', 1000, 1)"),
        "UPDATE stripe_payments SET taken = 0".to_owned(),
        "UPDATE subscription_periods SET granted = 0".to_owned(),
        "UPDATE stripe_invoices SET amount_paid = 0".to_owned(),
        "DELETE FROM stripe_invoices".to_owned(),
        "TRUNCATE stripe_invoices".to_owned(),
        format!("UPDATE accounts SET stripe_customer_id = 'cus_mine' WHERE id = '{id}'"),
        format!("UPDATE subscriptions SET plan_id = 'enterprise' WHERE account_id = '{id}'"),
        "UPDATE subscriptions SET status = 'active', current_period_end = now() + interval '9 years'".to_owned(),
        "UPDATE plans SET stripe_price_id = 'price_mine'".to_owned(),
        format!(
            "INSERT INTO subscriptions (account_id, plan_id, current_period_start, current_period_end) VALUES ('{id}', 'enterprise', now(), now() + interval '1 day')"
        ),
        format!("SELECT apply_stripe_event('{event}')"),
        format!("SELECT apply_payment('{id}', '{}')", event["effect"]),
        format!("SELECT apply_customer('{id}', 'cus_mine', true, false)"),
        format!("SELECT apply_subscription('{id}', '{{}}', '{{}}', 'y')"),
        format!("SELECT apply_invoice('{id}', '{{}}', '{{}}', 'y')"),
        "SELECT apply_reversal('{}', 'evt_x', 'y')".to_owned(),
        format!("SELECT take_back('pi_x', '{id}', 1, 1)"),
        format!("SELECT complete_signup('{id}', '{id}')"),
        "SELECT * FROM signup_addresses".to_owned(),
        format!("UPDATE credit_balances SET disputed_since = NULL, open_shortfall = 0 WHERE account_id = '{id}'"),
        format!("SELECT settle_period('sub_x', '{id}', now(), 1000, true)"),
        "SELECT settle_reversal('pi_x')".to_owned(),
        format!("SELECT record_payment('pi_x', '{id}', 1000, 1, 'usd')"),
        format!("SELECT stripe_account('cus_x', NULL, '{}')", other.id),
        "SELECT plan_line('[]')".to_owned(),
        "SELECT prices_without_a_plan('[]')".to_owned(),
        format!("SELECT account_plan('{}')", other.id),
    ];
    for role in ["authenticated", "oslira_api", "anon"] {
        let client = as_role(&world, role, &account).await;
        for attack in &attacks {
            assert_forbidden(&client, role, attack).await;
        }
    }
    let user = connect(&world.stack.info().database_url).await.unwrap();
    for attack in &attacks {
        assert_forbidden(&user, "the login", attack).await;
    }
    let client = as_role(&world, "authenticated", &account).await;
    let seen = client.query("SELECT account_id::text FROM stripe_invoices", &[]).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), std::slice::from_ref(id));
    let anon = as_role(&world, "anon", &account).await;
    assert_forbidden(&anon, "anon", "SELECT * FROM stripe_invoices").await;
    assert_eq!((account.balance().await, other.balance().await), (100, 100));
}

#[stack_test]
async fn the_service_reads_tables_and_changes_them_only_by_events(world: Arc<World>) {
    let account = world.account(0).await;
    let client = as_role(&world, "service_role", &account).await;
    for table in ["stripe_customers", "webhook_events", "stripe_payments", "subscription_periods", "stripe_invoices"] {
        client.batch_execute(&format!("SELECT * FROM {table} LIMIT 1")).await.unwrap();
        assert_forbidden(&client, "service_role", &format!("DELETE FROM {table}")).await;
        assert_forbidden(&client, "service_role", &format!("TRUNCATE {table}")).await;
    }
    for attack in [
        format!("UPDATE accounts SET stripe_customer_id = 'cus_x' WHERE id = '{}'", account.id),
        "UPDATE stripe_payments SET taken = 0".to_owned(),
        format!("SELECT settle_period('sub_x', '{}', now(), 1000, true)", account.id),
        format!("SELECT record_payment('pi_x', '{}', 1000, 1, 'usd')", account.id),
    ] {
        assert_forbidden(&client, "service_role", &attack).await;
    }
    // An invoice for a plan waits for its customer. A malformed event is rejected.
    for (effect, code) in [
        (json!({ "kind": "invoice", "customer": "cus_unknown", "lines": [{ "price_id": "price_pro" }], "status": "paid" }), "OS404"),
        (
            json!({ "kind": "payment", "session_id": "cs_x", "payment_intent": null, "account_id": account.id, "credits": -10, "amount_cents": 1, "customer": null }),
            "OS400",
        ),
        (json!({ "kind": "gift", "account_id": account.id }), "OS400"),
    ] {
        let event = json!({ "event_id": "evt_odd", "event_type": "x", "created": 1, "api_version": null, "effect": effect });
        let error = client.batch_execute(&format!("SELECT apply_stripe_event('{event}')")).await.unwrap_err();
        assert_eq!(error.as_db_error().map(|error| error.code().code()), Some(code), "{event}: {error}");
    }
    assert_eq!(world.db.value::<i32>("SELECT 1 FROM webhook_events WHERE stripe_event_id = 'evt_odd'", &[]).await, None);
    assert_eq!(account.balance().await, 0);
}
