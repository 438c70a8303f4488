//! The daily cleanup.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{CLEAN_UP, count, dry_run, kill, number, run, sql, start};
use crate::harness::{Account, Value, World, json, stack_test};

const TABLES: [&str; 6] = ["ai_usage_logs", "idempotency_keys", "analyses", "leads", "business_profiles", "accounts"];

/// Writes a lead and a failed run of it, both deleted this long ago, or not deleted if the time is empty. Returns the lead's id.
async fn lead(account: &Account, handle: &str, deleted: &str) -> String {
    let text = "WITH lead AS (INSERT INTO leads (account_id, business_profile_id, username, deleted_at)
                    VALUES ($1::text::uuid, $2::text::uuid, $3, now() - nullif($4, '')::interval) RETURNING *),
                run AS (INSERT INTO analyses (run_id, account_id, business_profile_id, lead_id, username, analysis_type, status, error_code, completed_at, deleted_at)
                    SELECT 'run_' || replace(gen_random_uuid()::text, '-', ''), account_id, business_profile_id, id, username, 'light', 'failed', 'ABORTED', now(), deleted_at
                    FROM lead)
                SELECT id::text FROM lead";
    account.world.db.value(text, &[&account.id, &account.business_profile_id, &handle, &deleted]).await.unwrap()
}

async fn profile(account: &Account, deleted: &str) -> String {
    let text = "INSERT INTO business_profiles (account_id, business_name, deleted_at) VALUES ($1::text::uuid, 'x', now() - nullif($2, '')::interval) RETURNING id::text";
    account.world.db.value(text, &[&account.id, &deleted]).await.unwrap()
}

/// Returns the number of the account's rows in each table.
async fn rows(account: &Account) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in &TABLES[..5] {
        counts.push(count(&account.world, &format!("SELECT count(*) FROM {table} WHERE account_id = '{}'", account.id)).await);
    }
    counts
}

fn counts(summary: &Value) -> Vec<u64> {
    TABLES.iter().map(|table| number(summary, table)).collect()
}

#[stack_test(alone)]
async fn rows_beyond_their_retention_are_removed_and_no_others(world: Arc<World>) {
    run(&world, CLEAN_UP).await;
    let account = world.account(5).await;
    let id = &account.id;
    for age in ["89 days 23 hours", "90 days 1 hour", "200 days"] {
        let text = format!(
            "INSERT INTO ai_usage_logs (id, account_id, provider, api_call_type, status, started_at, created_at) VALUES (gen_random_uuid(), '{id}', 'openai', 'core', 'success', now(), now() - interval '{age}')"
        );
        sql(&world, &text).await;
    }
    for age in ["23 hours", "25 hours"] {
        let text = format!(
            "INSERT INTO idempotency_keys (account_id, user_id, key, request_hash, work_id, created_at) SELECT id, owner_id, '{age}', repeat('0', 64), 'w', now() - interval '{age}' FROM accounts WHERE id = '{id}'"
        );
        sql(&world, &text).await;
    }
    let gone = lead(&account, "gone", "30 days 1 hour").await;
    let kept = [lead(&account, "kept", "29 days 23 hours").await, lead(&account, "live", "").await];
    let (empty, filled, young) =
        (profile(&account, "31 days").await, profile(&account, "31 days").await, profile(&account, "29 days").await);
    sql(&world, &format!("UPDATE leads SET business_profile_id = '{filled}' WHERE id = '{}'", kept[0])).await;
    // A run that failed without a lead is kept longer than its business profile.
    sql(&world, &format!("UPDATE analyses SET business_profile_id = NULL WHERE lead_id = '{}'", kept[1])).await;
    let before = rows(&account).await;
    let expected = [2, 1, 1, 1, 1, 0];
    assert_eq!(counts(&dry_run(&world, CLEAN_UP).await), expected);
    assert_eq!(rows(&account).await, before);
    assert_eq!(counts(&run(&world, CLEAN_UP).await), expected);
    let names = |table: &str| format!("SELECT count(*) FROM {table} WHERE id IN ('{gone}', '{empty}')");
    assert_eq!((count(&world, &names("leads")).await, count(&world, &names("business_profiles")).await), (0, 0));
    let stay = format!("SELECT count(*) FROM leads WHERE id IN ('{}', '{}')", kept[0], kept[1]);
    assert_eq!(count(&world, &stay).await, 2);
    assert_eq!(count(&world, &format!("SELECT count(*) FROM business_profiles WHERE id IN ('{filled}', '{young}')")).await, 2);
    assert_eq!(rows(&account).await, [before[0] - 2, before[1] - 1, before[2] - 1, before[3] - 1, before[4] - 1]);
    let (one, other) = tokio::join!(run(&world, CLEAN_UP), run(&world, CLEAN_UP));
    assert_eq!((counts(&one), counts(&other)), (vec![0; 6], vec![0; 6]));
}

#[stack_test(alone)]
async fn a_deleted_account_keeps_its_ledger_and_nothing_else(world: Arc<World>) {
    run(&world, CLEAN_UP).await;
    let (account, young) = (world.account(9).await, world.account(9).await);
    let ended = account.run(&world.handle("leaving"), "light").await;
    assert_eq!(ended.status(), "completed");
    lead(&account, "left", "1 day").await;
    let id = &account.id;
    let entries = count(&world, &format!("SELECT count(*) FROM credit_ledger WHERE account_id = '{id}'")).await;
    sql(
        &world,
        &format!("UPDATE accounts SET deleted_at = now() - interval '31 days', suspended_reason = 'asked us to' WHERE id = '{id}'"),
    )
    .await;
    sql(&world, &format!("UPDATE accounts SET deleted_at = now() - interval '29 days' WHERE id = '{}'", young.id)).await;
    // Rows that a live run refers to stay until it has ended.
    let text = format!(
        "INSERT INTO analyses (run_id, account_id, business_profile_id, username, analysis_type, status, batch_id) VALUES ('{}', '{id}', '{}', 'queued', 'light', 'pending', 'b')",
        run_id(),
        account.business_profile_id
    );
    sql(&world, &text).await;
    let dry = dry_run(&world, CLEAN_UP).await;
    assert_eq!(counts(&dry)[2..], [2, 2, 1, 1], "{dry}");
    assert_eq!(counts(&run(&world, CLEAN_UP).await)[2..], [2, 2, 1, 0]);
    sql(&world, &format!("SELECT fail_run(run_id, 'ABORTED') FROM analyses WHERE account_id = '{id}'")).await;
    assert_eq!(counts(&run(&world, CLEAN_UP).await)[2..], [1, 0, 0, 1]);
    assert_eq!(rows(&account).await[1..], [0; 4]);
    let text = "SELECT to_jsonb(a) - 'created_at' - 'updated_at' - 'deleted_at' FROM accounts a WHERE id = $1::text::uuid AND anonymized_at IS NOT NULL";
    let mut left: Value = world.db.value(text, &[id]).await.unwrap();
    left["anonymized_at"] = json!("then");
    assert_eq!(
        left,
        json!({ "id": id, "owner_id": null, "name": "Deleted account", "slug": format!("deleted-{id}"), "stripe_customer_id": null, "is_suspended": false,
                "suspended_at": null, "suspended_reason": null, "anonymized_at": "then" })
    );
    assert_eq!(count(&world, &format!("SELECT count(*) FROM account_members WHERE account_id = '{id}'")).await, 0);
    assert_eq!(count(&world, &format!("SELECT count(*) FROM subscriptions WHERE account_id = '{id}' AND status = 'canceled'")).await, 1);
    assert_eq!(count(&world, &format!("SELECT count(*) FROM credit_ledger WHERE account_id = '{id}'")).await, entries);
    assert_eq!(account.balance().await, 8);
    // The other account can still be restored, and this one has no rows left.
    assert_eq!(count(&world, &format!("SELECT count(*) FROM account_members WHERE account_id = '{}'", young.id)).await, 1);
    assert_eq!(counts(&run(&world, CLEAN_UP).await), [0; 6]);
}

fn run_id() -> String {
    format!("run_{}", uuid::Uuid::now_v7().simple())
}

/// Writes expired leads with a run each.
async fn expire(account: &Account, name: &str, size: i64) {
    let text = format!(
        "WITH gone AS (INSERT INTO leads (account_id, business_profile_id, username, deleted_at)
             SELECT '{0}', '{1}', '{name}_' || n, now() - interval '31 days' FROM generate_series(1, {size}) n RETURNING *)
         INSERT INTO analyses (run_id, account_id, business_profile_id, lead_id, username, analysis_type, status, error_code, completed_at, deleted_at)
         SELECT 'run_' || replace(gen_random_uuid()::text, '-', ''), account_id, business_profile_id, id, username, 'light', 'failed', 'ABORTED', now(), deleted_at FROM gone",
        account.id, account.business_profile_id
    );
    sql(&account.world, &text).await;
}

#[stack_test(alone)]
async fn ten_thousand_rows_are_removed_in_batches_while_requests_succeed(world: Arc<World>) {
    run(&world, CLEAN_UP).await;
    let account = world.account(9).await;
    expire(&account, "many", 3000).await;
    let text = format!(
        "INSERT INTO ai_usage_logs (id, account_id, provider, api_call_type, status, started_at, created_at)
         SELECT gen_random_uuid(), '{}', 'openai', 'core', 'success', now(), now() - interval '91 days' FROM generate_series(1, 4000)",
        account.id
    );
    sql(&world, &text).await;
    let done = AtomicBool::new(false);
    let requests = async {
        let mut slowest = Duration::ZERO;
        // A run, and reads until the cleanup has ended, at most as many as the limits allow.
        let run_id = account.start(&world.handle("meanwhile"), "light").await;
        for _ in 0..40 {
            let started = Instant::now();
            account.get("/api/credits/balance").await.data(200);
            slowest = slowest.max(started.elapsed());
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
        assert_eq!(account.ended(&run_id).await.status(), "completed");
        slowest
    };
    let cleanups = async {
        let both = tokio::join!(run(&world, CLEAN_UP), run(&world, CLEAN_UP));
        done.store(true, Ordering::Relaxed);
        both
    };
    let ((one, other), slowest) = tokio::join!(cleanups, requests);
    let removed: Vec<u64> = counts(&one).iter().zip(counts(&other)).map(|(one, other)| one + other).collect();
    assert_eq!(removed[0], 4000, "{one} {other}");
    // Each skips the rows that the other has locked. Together they remove all rows, or the next run removes the rest.
    let rest = run(&world, CLEAN_UP).await;
    let removed: Vec<u64> = removed.iter().zip(counts(&rest)).map(|(removed, rest)| removed + rest).collect();
    assert_eq!(removed, [4000, 0, 3000, 3000, 0, 0]);
    assert!(number(&one, "batches") + number(&other, "batches") >= 10_000 / 500, "{one} {other}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[stack_test(alone)]
async fn the_next_cleanup_completes_a_killed_one(world: Arc<World>) {
    run(&world, CLEAN_UP).await;
    let account = world.account(9).await;
    expire(&account, "killed", 1200).await;
    let holder = world.db.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE leads IN SHARE MODE").await.unwrap();
    let cleaning = start(&world, CLEAN_UP);
    world.until_waiting("remove_expired").await;
    kill(&world, "clean_up").await;
    assert!(cleaning.await.unwrap().is_err());
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(rows(&account).await[2], 0, "the analyses were removed before");
    let expired = format!("SELECT count(*) FROM leads WHERE account_id = '{}'", account.id);
    crate::harness::until("the rest", Duration::from_mins(1), || async {
        run(&world, CLEAN_UP).await;
        (count(&world, &expired).await == 0).then_some(())
    })
    .await;
}
