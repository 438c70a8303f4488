//! The daily renewal.

use std::sync::Arc;

use super::{CLEAN_UP, RENEW, count, dry_run, grants, kill, number, run, sql, start};
use crate::harness::{Account, Value, World, json, stack_test};

const RENEWAL: &str = "subscription_renewal";

/// Sets the period of the account's free subscription.
async fn period(account: &Account, start: &str, end: &str) {
    let text = format!(
        "UPDATE subscriptions SET current_period_start = {start}, current_period_end = {end}, period_anchor = NULL
         WHERE account_id = '{}' AND stripe_subscription_id IS NULL",
        account.id
    );
    sql(&account.world, &text).await;
}

/// Creates an account whose free period ended ten days ago.
async fn due(world: &Arc<World>) -> Account {
    let account = world.account(0).await;
    period(&account, "now() - interval '40 days'", "now() - interval '10 days'").await;
    account
}

/// Returns the free subscription: its id, its start in Unix seconds, and whether its period contains the present.
async fn subscription(account: &Account) -> (String, i64, bool) {
    let text = "SELECT id::text, floor(extract(epoch FROM current_period_start))::bigint, now() >= current_period_start AND now() < current_period_end
                FROM subscriptions WHERE account_id = $1::text::uuid AND stripe_subscription_id IS NULL";
    let rows = account.world.db.rows(text, &[&account.id]).await;
    (rows[0].get(0), rows[0].get(1), rows[0].get(2))
}

#[stack_test(alone)]
async fn a_free_subscription_is_renewed_once_a_period(world: Arc<World>) {
    run(&world, RENEW).await;
    let account = due(&world).await;
    let summary = dry_run(&world, RENEW).await;
    assert_eq!(number(&summary, "renewed"), 1, "{summary}");
    assert_eq!((account.balance().await, subscription(&account).await.2), (0, false));
    let summary = run(&world, RENEW).await;
    assert_eq!((number(&summary, "renewed"), number(&summary, "credits_granted"), &summary["more"]), (1, 25, &json!(false)), "{summary}");
    let (id, start, is_current) = subscription(&account).await;
    assert!(is_current);
    assert_eq!(grants(&account, RENEWAL).await, [(format!("renewal:{id}:{start}"), 25)]);
    let summary = run(&world, RENEW).await;
    assert_eq!(number(&summary, "renewed"), 0);
    // A period that is set back is not renewed again: the last renewal is less than 23 hours old, and the period has its key.
    period(&account, "now() - interval '40 days'", "now() - interval '10 days'").await;
    assert_eq!(number(&run(&world, RENEW).await, "renewed"), 0);
    assert_eq!(account.balance().await, 25);
}

/// The schedule runs an hour after a period's end, when the next period has also ended.
#[stack_test(alone)]
async fn a_late_renewal_skips_no_period(world: Arc<World>) {
    let account = world.account(0).await;
    period(&account, "now() - interval '1 hour' - interval '2 months'", "now() - interval '1 hour' - interval '1 month'").await;
    let (id, _, _) = subscription(&account).await;
    let skipped: i64 = world
        .db
        .value("SELECT floor(extract(epoch FROM current_period_end))::bigint FROM subscriptions WHERE id = $1::text::uuid", &[&id])
        .await
        .unwrap();
    run(&world, RENEW).await;
    // The period that ended an hour ago is renewed. The next one waits for the next run.
    assert_eq!(grants(&account, RENEWAL).await, [(format!("renewal:{id}:{skipped}"), 25)]);
}

#[stack_test(alone)]
async fn missed_periods_are_not_granted_later(world: Arc<World>) {
    let account = world.account(0).await;
    period(&account, "'2025-08-31T10:00:00Z'", "'2025-09-30T10:00:00Z'").await;
    run(&world, RENEW).await;
    let (id, start, is_current) = subscription(&account).await;
    assert!(is_current);
    assert_eq!(grants(&account, RENEWAL).await, [(format!("renewal:{id}:{start}"), 25)]);
    // On the first period's day, or on the last day of a shorter month.
    let text = format!(
        "SELECT count(*) FROM subscriptions WHERE id = '{id}' AND period_anchor = '2025-08-31T10:00:00Z'
         AND (current_period_start, current_period_end) = (SELECT p.period_start, p.period_end FROM calendar_period(period_anchor, now()) p)
         AND (extract(day FROM current_period_start AT TIME ZONE 'UTC') >= 28 AND extract(hour FROM current_period_start AT TIME ZONE 'UTC') = 10)"
    );
    assert_eq!(count(&world, &text).await, 1);
}

#[stack_test(alone)]
async fn accounts_without_a_claim_are_not_renewed_and_accumulate_nothing(world: Arc<World>) {
    let (suspended, deleted, paid, renewed) = tokio::join!(due(&world), due(&world), due(&world), due(&world));
    sql(&world, &format!("UPDATE accounts SET is_suspended = true WHERE id = '{}'", suspended.id)).await;
    sql(&world, &format!("UPDATE accounts SET deleted_at = now() WHERE id = '{}'", deleted.id)).await;
    let live = format!(
        "INSERT INTO subscriptions (account_id, plan_id, stripe_subscription_id, status, current_period_start, current_period_end)
         VALUES ('{0}', 'pro', 'sub_{0}', 'past_due', now(), now() + interval '1 month')",
        paid.id
    );
    sql(&world, &live).await;
    sql(&world, &format!("SELECT grant_credits('{}', 1, '{RENEWAL}', 'renewal:other:1')", renewed.id)).await;
    for _ in 0..3 {
        run(&world, RENEW).await;
    }
    assert_eq!(number(&dry_run(&world, RENEW).await, "renewed"), 0);
    for (account, balance) in [(&suspended, 0), (&deleted, 0), (&paid, 0), (&renewed, 1)] {
        assert_eq!(account.balance().await, balance);
        assert!(!subscription(account).await.2);
    }
    // Once eligible again, each gets the current period and no other.
    sql(&world, &format!("UPDATE accounts SET is_suspended = false WHERE id = '{}'", suspended.id)).await;
    sql(
        &world,
        &format!("UPDATE subscriptions SET status = 'canceled', canceled_at = now() WHERE stripe_subscription_id = 'sub_{}'", paid.id),
    )
    .await;
    for _ in 0..2 {
        run(&world, RENEW).await;
    }
    for account in [&suspended, &paid] {
        assert_eq!(grants(account, RENEWAL).await.len(), 1);
        assert_eq!(account.balance().await, 25);
    }
    assert_eq!((deleted.balance().await, renewed.balance().await), (0, 1));
}

/// Takes the lock that serializes the events of one account, as an event of Stripe does first.
fn turn(account: &Account) -> String {
    format!("SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE", account.id)
}

/// Applies an event of an active subscription whose period of 30 days starts at this time.
fn subscribed(account: &Account, start: i64) -> String {
    format!(
        "{}; INSERT INTO subscriptions (account_id, plan_id, stripe_subscription_id, status, current_period_start, current_period_end)
         VALUES ('{1}', 'pro', 'sub_{1}', 'active', to_timestamp({start}), to_timestamp({start}) + interval '30 days')
         ON CONFLICT (stripe_subscription_id) DO UPDATE SET current_period_start = excluded.current_period_start, current_period_end = excluded.current_period_end",
        turn(account),
        account.id
    )
}

/// Applies a paid invoice to the period.
fn invoiced(account: &Account, start: i64) -> String {
    format!("{}; SELECT settle_period('sub_{1}', '{1}', to_timestamp({start}), 100, true)", turn(account), account.id)
}

#[stack_test(alone)]
async fn a_paid_period_is_granted_once_whenever_its_invoice_is_paid(world: Arc<World>) {
    let account = due(&world).await;
    let now = jiff::Timestamp::now().as_second();
    let (first, second, third) = (now - 60 * 86_400, now - 30 * 86_400, now);
    let key = |start: i64| format!("renewal:sub_{}:{start}", account.id);
    // While a subscription starts, a renewal waits for its events, after which the account is not a free one.
    let starting = world.db.connect().await;
    starting.batch_execute(&format!("BEGIN; {}; {}", subscribed(&account, first), invoiced(&account, first))).await.unwrap();
    let renewing = start(&world, RENEW);
    world.until_waiting("renew_subscriptions").await;
    starting.batch_execute("COMMIT").await.unwrap();
    renewing.await.unwrap().unwrap();
    assert_eq!(grants(&account, RENEWAL).await, [(key(first), 100)]);
    // A period is not granted before its invoice is paid.
    sql(&world, &subscribed(&account, second)).await;
    run(&world, RENEW).await;
    assert_eq!(account.balance().await, 100);
    // The invoice is paid during the schedule, or before it.
    let paying = world.db.connect().await;
    paying.batch_execute(&format!("BEGIN; {}", invoiced(&account, second))).await.unwrap();
    run(&world, RENEW).await;
    paying.batch_execute("COMMIT").await.unwrap();
    run(&world, RENEW).await;
    assert_eq!(grants(&account, RENEWAL).await, [(key(first), 100), (key(second), 100)]);
    sql(&world, &subscribed(&account, third)).await;
    let renewing = start(&world, RENEW);
    sql(&world, &invoiced(&account, third)).await;
    renewing.await.unwrap().unwrap();
    assert_eq!(grants(&account, RENEWAL).await.len(), 3);
    // A paid period with a larger entitlement than its grant, as after a manual repair.
    let repair = format!(
        "UPDATE subscription_periods SET level = 300 WHERE stripe_subscription_id = 'sub_{}' AND granted = 100 AND period_start = to_timestamp({third})",
        account.id
    );
    sql(&world, &repair).await;
    assert_eq!(number(&dry_run(&world, RENEW).await, "settled_periods"), 1);
    let (one, other) = tokio::join!(run(&world, RENEW), run(&world, RENEW));
    assert_eq!(number(&one, "settled_periods") + number(&other, "settled_periods"), 1);
    assert_eq!(grants(&account, RENEWAL).await.last(), Some(&(format!("{}:300", key(third)), 200)));
    assert_eq!(account.balance().await, 500);
}

#[stack_test(alone)]
async fn overdue_subscriptions_are_reported(world: Arc<World>) {
    let account = world.account(0).await;
    let now = jiff::Timestamp::now().as_second();
    let before = number(&dry_run(&world, CLEAN_UP).await, "overdue_subscriptions");
    sql(&world, &subscribed(&account, now - 32 * 86_400)).await;
    assert_eq!(number(&run(&world, CLEAN_UP).await, "overdue_subscriptions"), before, "two days are within the tolerance");
    sql(&world, &subscribed(&account, now - 34 * 86_400)).await;
    assert_eq!(number(&run(&world, RENEW).await, "settled_periods"), 0, "only a paid invoice renews it");
    let summary = run(&world, CLEAN_UP).await;
    assert_eq!(number(&summary, "overdue_subscriptions"), before + 1, "{summary}");
    assert_eq!(account.balance().await, 0);
    let named = format!("sub_{}", account.id);
    crate::harness::until("the warning", std::time::Duration::from_secs(20), || async {
        let lines = world.stack.log_lines(Some("clean_up")).await.unwrap();
        lines.into_iter().find(|line| line.contains("overdue") && line.contains(&named) && line.contains("WARN"))
    })
    .await;
    // The metric of the alarm.
    crate::harness::until("the metric", std::time::Duration::from_secs(20), || async {
        let lines = world.stack.log_lines(Some("clean_up")).await.unwrap();
        let lines = lines.into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.rev().find(|line| line["overdue_subscriptions"] == before + 1 && line["_aws"].is_object())
    })
    .await;
    sql(&world, &format!("UPDATE subscriptions SET status = 'canceled' WHERE stripe_subscription_id = '{named}'")).await;
}

#[stack_test(alone)]
async fn two_concurrent_renewals_grant_once(world: Arc<World>) {
    run(&world, RENEW).await;
    crowd(&world, "twice", 230).await;
    let (one, other) = tokio::join!(run(&world, RENEW), run(&world, RENEW));
    assert_eq!(number(&one, "renewed") + number(&other, "renewed"), 230, "{one} {other}");
    assert_eq!(number(&one, "credits_granted") + number(&other, "credits_granted"), 230 * 25);
    assert_renewed_once(&world, "twice", 230).await;
}

#[stack_test(alone)]
async fn the_next_renewal_completes_a_killed_one(world: Arc<World>) {
    run(&world, RENEW).await;
    crowd(&world, "killed", 230).await;
    // The second of three batches waits for a balance that the test has locked.
    let holder = world.db.connect().await;
    let held = "BEGIN; SELECT 1 FROM credit_balances b JOIN subscriptions s USING (account_id) JOIN accounts a ON a.id = s.account_id
                WHERE a.slug LIKE 'killed-crowd-%' AND s.current_period_end = (SELECT max(current_period_end) - interval '80 minutes' FROM subscriptions s
                JOIN accounts a ON a.id = s.account_id WHERE a.slug LIKE 'killed-crowd-%') FOR UPDATE OF b";
    holder.batch_execute(held).await.unwrap();
    let renewing = start(&world, RENEW);
    world.until_waiting("renew_subscriptions").await;
    kill(&world, "renew_subscriptions").await;
    assert!(renewing.await.unwrap().is_err());
    let renewed = "SELECT count(*) FROM credit_ledger l JOIN accounts a ON a.id = l.account_id WHERE a.slug LIKE 'killed-crowd-%' AND transaction_type = 'subscription_renewal'";
    assert_eq!(count(&world, renewed).await, 100);
    // The server still runs the killed one's statement. The next run waits for its rows and renews the rest.
    let next = start(&world, RENEW);
    world.until_waiting("renew_subscriptions").await;
    holder.batch_execute("COMMIT").await.unwrap();
    let summary = next.await.unwrap().unwrap();
    assert_eq!(summary["more"], json!(false), "{summary}");
    assert_renewed_once(&world, "killed", 230).await;
}

/// Creates accounts whose free periods ended ten days ago, a minute apart.
async fn crowd(world: &World, name: &str, size: i64) {
    let text = format!(
        "INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) SELECT gen_random_uuid(), '{name}-crowd-' || n || '@example.com', now(), jsonb_build_object('full_name', '{name} crowd ' || n) FROM generate_series(1, {size}) n;
         UPDATE accounts SET slug = split_part(u.email, '@', 1) FROM users u WHERE u.id = owner_id AND u.email LIKE '{name}-crowd-%@example.com';
         UPDATE subscriptions SET current_period_start = now() - interval '40 days', current_period_end = now() - interval '10 days' + n * interval '1 minute'
         FROM (SELECT id, row_number() OVER (ORDER BY slug) AS n FROM accounts WHERE slug LIKE '{name}-crowd-%') a WHERE a.id = account_id"
    );
    sql(world, &text).await;
}

async fn assert_renewed_once(world: &World, name: &str, size: i64) {
    let text = format!(
        "SELECT count(*) FROM accounts a JOIN credit_balances b ON b.account_id = a.id JOIN subscriptions s ON s.account_id = a.id
         WHERE a.slug LIKE '{name}-crowd-%' AND b.current_balance = 50 AND b.entry_count = 2 AND now() < s.current_period_end"
    );
    assert_eq!(count(world, &text).await, size);
}
