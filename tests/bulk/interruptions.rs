//! A consumer that is killed at any point, that receives a message twice, and that keeps failing.

use std::sync::Arc;
use std::time::Duration;

use super::{Batch, TIMEOUT};
use crate::harness::{Account, Queue, World, json, stack_test, until};

/// Asserts that every handle was analyzed once, charged once and fetched by one Actor run, whose cost is recorded to the micro-USD.
async fn assert_once(account: &Account, batch: &Batch, handles: &[String]) {
    let world = &account.world;
    let endings = Batch::endings(&batch.ended().await);
    assert_eq!(endings.len(), handles.len());
    assert!(endings.values().all(|end| end == "completed"), "{endings:?}");
    assert_eq!(account.count_entries("analysis").await, i64::try_from(handles.len()).unwrap());
    assert_eq!(account.count_entries("refund").await, 0);
    assert_eq!(world.actor_runs(&handles[0]).await.len(), 1);
    assert_eq!(account.recorded_cost("apify").await, world.bill_of("apify", &handles[0]).await);
    // One question a run: no call was repeated.
    let sql = "SELECT count(*) FROM ai_usage_logs WHERE account_id = $1::text::uuid AND provider <> 'apify'";
    assert_eq!(world.db.value::<i64>(sql, &[&account.id]).await, i64::try_from(handles.len()).ok());
}

#[stack_test(alone)]
async fn a_consumer_killed_after_the_scrape_pays_for_it_once(world: Arc<World>) {
    world.set_visibility_timeout(Queue::BulkGroups, 3).await;
    let account = world.account(20).await;
    let handles = world.handles("killed", 5);
    world.slow_scrape(&handles[0], 2_000).await;
    let batch = account.start_batch(&handles, "light").await;
    // The Actor run is recorded and running.
    let sql = "SELECT count(*) FROM analyses WHERE batch_id = $1 AND scrape_run_id IS NOT NULL HAVING count(*) > 0";
    until("a recorded Actor run", TIMEOUT, || async { world.db.value::<i64>(sql, &[&batch.id]).await }).await;
    assert!(world.kill_function("bulk_groups").await > 0);
    assert_once(&account, &batch, &handles).await;
    world.until_empty(Queue::BulkGroups).await;
    world.set_visibility_timeout(Queue::BulkGroups, 1080).await;
}

#[stack_test(alone)]
async fn a_consumer_killed_after_half_of_the_starts_starts_the_rest(world: Arc<World>) {
    world.set_visibility_timeout(Queue::BulkGroups, 3).await;
    let account = world.account(20).await;
    let handles = world.handles("killed", 10);
    // When the first run is admitted, the consumer is starting runs.
    let batch = account.start_batch(&handles, "light").await;
    let sql = "SELECT count(*) FROM analyses WHERE batch_id = $1 AND status <> 'pending' HAVING count(*) > 0";
    until("the first run", TIMEOUT, || async { world.db.value::<i64>(sql, &[&batch.id]).await }).await;
    world.kill_function("bulk_groups").await;
    assert_once(&account, &batch, &handles).await;
    world.until_empty(Queue::BulkGroups).await;
    world.set_visibility_timeout(Queue::BulkGroups, 1080).await;
}

#[stack_test(alone)]
async fn two_concurrent_deliveries_of_a_group_are_one(world: Arc<World>) {
    let account = world.account(20).await;
    let handles = world.handles("twice", 6);
    world.slow_scrape(&handles[0], 3_000).await;
    let batch = account.start_batch(&handles, "light").await;
    let sql = "SELECT count(*) FROM analyses WHERE batch_id = $1 AND scrape_run_id IS NOT NULL HAVING count(*) > 0";
    until("a recorded Actor run", TIMEOUT, || async { world.db.value::<i64>(sql, &[&batch.id]).await }).await;
    // While the first is being processed, and once more afterwards.
    world.send_message(Queue::BulkGroups, &batch.message()).await;
    assert_once(&account, &batch, &handles).await;
    world.send_message(Queue::BulkGroups, &batch.message()).await;
    world.until_empty(Queue::BulkGroups).await;
    assert_once(&account, &batch, &handles).await;
}

/// Five deliveries, with backoffs of 310 seconds together until the message is a dead letter. Other tests run meanwhile.
#[stack_test]
async fn a_group_in_the_dead_letters_fails_uncharged(world: Arc<World>) {
    let account = world.account(20).await;
    let handles = world.handles("forgood", 3);
    world.fault("apify", &handles[1], None, json!({ "kind": "run_failed" })).await;
    let batch = account.start_batch(&handles, "light").await;
    let endings = Batch::endings(&batch.ended().await);
    assert!(endings.values().all(|end| end == "SCRAPE_FAILED"), "{endings:?}");
    assert_eq!((account.balance().await, account.count_entries("analysis").await), (20, 0));
    assert_eq!(world.actor_runs(&handles[0]).await.len(), 5, "one a delivery");
    until("empty dead letters", Duration::from_mins(1), || async {
        (world.messages_in(Queue::BulkGroupsDeadLetters).await == 0).then_some(())
    })
    .await;
}
