//! Costs of Actor runs, which Apify reports after their end.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, Value, World, json, stack_test, until};

const TIMEOUT: Duration = Duration::from_mins(2);

/// Makes the recorded cost of an account's scrapes old enough to be read again, and older than any other.
async fn age(account: &Account) {
    let sql = "UPDATE ai_usage_logs SET created_at = now() - interval '1 day', cost_read_at = NULL
               WHERE account_id = $1::text::uuid AND provider = 'apify' AND NOT cost_known";
    account.world.db.rows(sql, &[&account.id]).await;
}

/// Returns the sum of the account's scrapes, and how many of them have no known cost.
async fn recorded(account: &Account) -> (i64, i64) {
    let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8, count(*) FILTER (WHERE NOT cost_known)
               FROM ai_usage_logs WHERE account_id = $1::text::uuid AND provider = 'apify'";
    let row = account.world.db.rows(sql, &[&account.id]).await.remove(0);
    (row.get(0), row.get(1))
}

/// Runs Actors, which read costs again meanwhile, until all costs of `account` are known.
async fn settle(account: &Account) {
    let other = account.world.account(99).await;
    until("the settled costs", TIMEOUT, || async {
        age(account).await;
        other.run(&other.world.handle("later"), "light").await;
        (recorded(account).await.1 == 0).then_some(())
    })
    .await;
}

/// Apify reports neither a total nor events when the run has just ended. Nothing is recorded as free.
#[stack_test]
async fn a_cost_that_settles_late_is_marked_and_recorded_later(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("late");
    world.fault("apify", &handle, Some(1), json!({ "kind": "cost_unsettled", "seconds": 4 })).await;
    let ended = account.run(&handle, "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    let result = account.result(&ended.run_id).await.data(200);
    let scrape =
        |cost: &Value| cost["calls"].as_array().unwrap().iter().find(|call| call["call"] == "scrape").unwrap()["cost_micro_usd"].clone();
    let cost = &result["cost"];
    assert_eq!((&cost["unknown_calls"], &scrape(cost), &cost["apify_micro_usd"]), (&json!(1), &Value::Null, &json!(0)), "{cost}");
    assert_eq!(recorded(&account).await, (0, 1));

    settle(&account).await;
    let result = account.result(&ended.run_id).await.data(200);
    let (cost, billed) = (&result["cost"], world.bill_of("apify", &handle).await);
    assert!(billed > 0);
    assert_eq!((&cost["unknown_calls"], &scrape(cost), &cost["apify_micro_usd"]), (&json!(0), &json!(billed), &json!(billed)), "{cost}");
    assert_eq!(result["actual_cost_micro_usd"].as_i64(), Some(world.bill(&handle).await));
    // Once known, the cost of a run that has ended is final.
    let sql = "UPDATE analyses SET total_cost_micro_usd = 0 WHERE run_id = $1";
    assert!(world.db.connect().await.execute(sql, &[&ended.run_id]).await.is_err());
}

/// Aborting fails just when the time for the profile is over: the Actor run goes on, and costs.
#[stack_test]
async fn an_actor_run_that_is_not_aborted_is_not_recorded_as_free(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("sluggish");
    let lead = account.lead_of(&handle).await;
    world.slow_scrape(&handle, 23_000).await;
    world.fault_rule(json!({ "vendor": "apify", "op": "abort", "match": handle, "fault": { "kind": "status", "status": 500 } })).await;
    account.post(&format!("/api/leads/{lead}/refresh-check"), &json!({})).await.problem(503, "SCRAPE_TIMED_OUT");
    assert_eq!(recorded(&account).await, (0, 1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    settle(&account).await;
    assert_eq!(recorded(&account).await, (2300, 0));
    assert_eq!(world.bill(&handle).await, 2300);
}

/// The shares of a group add up to what its Actor run cost, also if that is known later.
#[stack_test]
async fn the_shares_of_a_group_settle_together(world: Arc<World>) {
    let account = world.account(9).await;
    let handles = world.handles("latebatch", 3);
    world.fault("apify", &handles[0], None, json!({ "kind": "cost_unsettled", "seconds": 4 })).await;
    let body = json!({ "usernames": handles, "businessProfileId": account.business_profile_id, "analysisType": "light" });
    let batch = account.post("/api/leads/analyze/bulk", &body).await.data(202);
    let sql = "SELECT count(*) FROM analyses WHERE batch_id = $1 AND status = 'completed'";
    let id = batch["batch_id"].as_str().expect("a batch id").to_owned();
    until("the batch", TIMEOUT, || async { (world.db.value::<i64>(sql, &[&id]).await == Some(3)).then_some(()) }).await;
    assert_eq!(recorded(&account).await, (0, 3));
    settle(&account).await;
    let billed = world.bill_of("apify", &handles[0]).await;
    assert_eq!((recorded(&account).await, billed), ((6900, 0), 6900));
    let sql = "SELECT sum(total_cost_micro_usd)::int8 - sum((cost ->> 'openai_micro_usd')::int8)::int8 FROM analyses WHERE batch_id = $1";
    assert_eq!(world.db.value::<i64>(sql, &[&id]).await, Some(6900));
}

impl Account {
    /// Creates a lead of a handle without an analysis.
    async fn lead_of(&self, handle: &str) -> String {
        let sql =
            "INSERT INTO leads (account_id, business_profile_id, username) VALUES ($1::text::uuid, $2::text::uuid, $3) RETURNING id::text";
        self.world.db.value(sql, &[&self.id, &self.business_profile_id, &handle]).await.expect("a lead")
    }
}
