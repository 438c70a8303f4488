//! The schedules: their deployment, and their runs: repeated, concurrent and killed.
//!
//! A schedule processes the rows of all accounts, so these tests run alone.

mod calendar;
mod cleanup;
mod deployed;
mod renewals;
mod stuck;
mod usage;

use std::sync::Arc;

use crate::harness::{Account, Value, World, json};

const RENEW: &str = "renew-subscriptions";
const CLEAN_UP: &str = "clean-up";
const END_STUCK: &str = "end-stuck-runs";

/// Leaves a charged run of the account that has made no progress for longer than a run may rest.
pub(crate) async fn stuck_run(account: &Account) {
    stuck::rested(&account.world, &stuck::admitted(account, "stuck.for.a.metric").await, "16 minutes").await;
}

/// Runs a schedule and returns its summary.
async fn run(world: &World, schedule: &str) -> Value {
    world.invoke(schedule, &json!({ "dry_run": false })).await.expect("a summary")
}

async fn dry_run(world: &World, schedule: &str) -> Value {
    let summary = world.invoke(schedule, &json!({ "dry_run": true })).await.expect("a summary");
    assert_eq!(summary["dry_run"], json!(true));
    summary
}

/// Starts a schedule without waiting for it.
fn start(world: &Arc<World>, schedule: &'static str) -> tokio::task::JoinHandle<Result<Value, String>> {
    let world = world.clone();
    tokio::spawn(async move { world.invoke(schedule, &json!({})).await })
}

/// Kills a schedule's process in the middle of its transaction.
async fn kill(world: &World, binary: &str) {
    assert!(world.kill_function(binary).await > 0, "{binary} was running");
}

fn number(summary: &Value, name: &str) -> u64 {
    summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}"))
}

/// Runs a statement as the database's owner.
async fn sql(world: &World, text: &str) {
    world.db.connect().await.batch_execute(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

async fn count(world: &World, text: &str) -> i64 {
    world.db.value(text, &[]).await.expect("a count")
}

/// Returns the account's ledger entries of a type, key and amount, in order.
async fn grants(account: &Account, kind: &str) -> Vec<(String, i32)> {
    let sql =
        "SELECT idempotency_key, amount FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2 ORDER BY entry_no";
    account.world.db.rows(sql, &[&account.id, &kind]).await.iter().map(|row| (row.get(0), row.get(1))).collect()
}
