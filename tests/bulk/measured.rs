//! A hundred handles with the vendors' latencies. The duration is printed and not asserted: it depends on the machine.

use std::sync::Arc;
use std::time::Instant;

use crate::harness::{World, stack_test};

/// The latencies that the predecessor measured.
const ACTOR_START_MS: u64 = 6_000;
const PROFILE_MS: u64 = 200;
const MODEL_MS: u64 = 2_000;

#[stack_test(alone)]
async fn a_hundred_handles_keep_the_vendors_busy_and_no_more(world: Arc<World>) {
    let account = world.account(150).await;
    let handles = world.handles("hundred", 100);
    world.slow_scrape_by("hundred_", ACTOR_START_MS, PROFILE_MS).await;
    world.slow_model("openai", "hundred_", MODEL_MS).await;
    let begun = Instant::now();
    let batch = account.start_batch(&handles, "light").await;
    let accepted = begun.elapsed();
    let progress = batch.ended().await;
    let took = begun.elapsed();
    println!("100 LIGHT analyses in a batch: accepted after {accepted:?}, complete after {took:?}");
    assert_eq!(progress["status_counts"]["completed"], 100, "{progress}");
    assert_eq!((account.count_entries("analysis").await, account.balance().await), (100, 50));

    // Each handle was fetched once, and no more than ten Actor runs overlapped.
    let runs = world.actor_runs("hundred_").await;
    let spans: Vec<(u64, u64)> = runs
        .iter()
        .map(|run| {
            let (start, count) = (run["started_at_ms"].as_u64().unwrap(), run["match"].as_array().unwrap().len() as u64);
            (start, start + ACTOR_START_MS + PROFILE_MS * count)
        })
        .collect();
    let most = spans.iter().map(|(at, _)| spans.iter().filter(|(start, end)| start <= at && at < end).count()).max().unwrap();
    assert!((2..=10).contains(&most), "{most} Actor runs at once");
    assert_eq!(runs.iter().map(|run| run["match"].as_array().unwrap().len()).sum::<usize>(), 100);
    assert_eq!(account.recorded_cost("apify").await, world.bill_of("apify", "hundred_").await);
    let sql = "SELECT sum(cost_micro_usd)::int8 FROM ai_usage_logs WHERE account_id = $1::text::uuid";
    assert_eq!(progress["cost_micro_usd"].as_i64(), world.db.value::<i64>(sql, &[&account.id]).await);
}
