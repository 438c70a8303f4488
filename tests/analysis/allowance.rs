//! What cancelled runs may cost us: refunded up to a limit in 24 hours, beyond which a run that has begun to ask models keeps its charge.

use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

/// The limit and the estimates of `refunded_cost_limit()` and `cancelled_run_cost()`, in micro-USD.
const LIMIT: i64 = 500_000;
const ESTIMATES: [(&str, i64); 3] = [("light", 3000), ("deep", 20_000), ("xray", 40_000)];

/// Charges a run that has begun to ask its models (step 9), if `asking`, or to fetch its profile. No execution works on it.
async fn charged(account: &Account, asking: bool) -> String {
    let world = &account.world;
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let input = json!({
        "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
        "username": world.handle("allowance"), "tier": "xray", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    let admitted: Value = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &input]).await.unwrap();
    assert_eq!(admitted["outcome"], json!("admitted"), "{admitted}");
    world.db.rows(if asking { "SELECT status FROM begin_analysis($1)" } else { "SELECT status FROM begin_task($1)" }, &[&run_id]).await;
    run_id
}

/// Cancels a run and returns the credits that are refunded and kept, and the cost so far.
async fn cancelled(account: &Account, run_id: &str) -> (i64, i64, i64) {
    let data = account.cancel(run_id).await.data(200);
    assert_eq!((&data["status"], &data["refunded_cost"]["limit_micro_usd"]), (&json!("cancelled"), &json!(LIMIT)));
    let number = |value: &Value| value.as_i64().unwrap();
    (number(&data["credits_refunded"]), number(&data["credits_kept"]), number(&data["refunded_cost"]["used_micro_usd"]))
}

/// Records what a vendor charged for a run, as its task does, also after the cancellation.
async fn pay(world: &World, run_id: &str, micro_usd: i64) {
    let calls = json!([{ "id": uuid::Uuid::new_v4(), "provider": "openai", "model": "m", "api_call_type": "psychographic", "status": "success",
        "response_id": uuid::Uuid::new_v4(), "cost_micro_usd": micro_usd, "started_at_ms": 1_795_400_000_000_i64 }]);
    world.db.rows("SELECT record_vendor_calls($1, $2)", &[&run_id, &calls]).await;
}

#[stack_test]
async fn cancellations_beyond_the_limit_keep_their_charge(world: Arc<World>) {
    let account = world.account(100).await;
    let first = charged(&account, true).await;
    // The answers are on their way: the run counts as its estimate until their costs are recorded.
    assert_eq!(cancelled(&account, &first).await, (5, 0, 40_000));
    pay(&world, &first, 450_000).await;
    let second = charged(&account, true).await;
    assert_eq!(cancelled(&account, &second).await, (5, 0, 490_000));
    assert_eq!(account.balance().await, 100);

    let third = charged(&account, true).await;
    for _ in 0..2 {
        assert_eq!(cancelled(&account, &third).await, (0, 5, 490_000), "a repetition changes nothing");
    }
    assert_eq!((account.balance().await, account.entries(&third).await), (95, vec![("analysis".to_owned(), -5)]));
    let problem = account.result(&third).await.problem(409, "ANALYSIS_CANCELLED");
    assert_eq!(problem["details"]["credits_refunded"], json!(0));
    for (run_id, expected) in [(&second, "You were not charged."), (&third, "Its charge is kept")] {
        let message = account.progress(run_id).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{message}");
    }
    // Before step 9 a cancellation is always refunded, and so is a run that fails.
    let early = charged(&account, false).await;
    assert_eq!(cancelled(&account, &early).await, (5, 0, 490_000));
    let failed = charged(&account, true).await;
    world.db.rows("SELECT fail_run($1, 'AI_FAILED')", &[&failed]).await;
    assert_eq!(account.balance().await, 95);

    // The same for a batch: one of its runs asks models already.
    let batch_id = format!("batch_{}", uuid::Uuid::now_v7().simple());
    for asking in [true, false] {
        let run_id = charged(&account, asking).await;
        world.db.rows("UPDATE analyses SET batch_id = $2 WHERE run_id = $1", &[&run_id, &batch_id]).await;
    }
    for newly in [2, 0] {
        let data = account.post(&format!("/api/leads/analyze/bulk/{batch_id}/cancel"), &json!({})).await.data(200);
        let found = ["newly_cancelled", "cancelled", "credits_refunded", "credits_kept"].map(|field| data[field].as_i64().unwrap());
        assert_eq!((found, &data["refunded_cost"]["used_micro_usd"]), ([newly, 2, 5, 5], &json!(490_000)));
    }
    assert_eq!(account.balance().await, 90);

    // A day later the account has its allowance back.
    let client = world.db.connect().await;
    let age = format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE analyses SET completed_at = completed_at - interval '25 hours' WHERE account_id = '{}'; COMMIT",
        account.id
    );
    client.batch_execute(&age).await.unwrap();
    let next = charged(&account, true).await;
    assert_eq!(cancelled(&account, &next).await, (5, 0, 40_000));
}

#[stack_test]
async fn concurrent_cancellations_count_each_other(world: Arc<World>) {
    let account = world.account(100).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(charged(&account, true).await);
    }
    let ends = futures::future::join_all(runs.iter().map(|run_id| cancelled(&account, run_id))).await;
    let refunded = ends.iter().filter(|(refunded, kept, _)| (*refunded, *kept) == (5, 0)).count();
    let kept = ends.iter().filter(|(refunded, kept, _)| (*refunded, *kept) == (0, 5)).count();
    assert_eq!((refunded, kept, account.balance().await), (12, 8, 60), "12 × 40,000 of 500,000");
}

/// The estimate covers what a tier's questions cost, and is not far above it.
#[stack_test]
async fn the_estimates_are_near_the_costs(world: Arc<World>) {
    let account = world.account(9).await;
    for (tier, estimate) in ESTIMATES {
        let handle = world.handle("estimate");
        let ended = account.run(&handle, tier).await;
        assert_eq!(ended.status(), "completed");
        let cost = world.bill_of("openai", &handle).await;
        println!("{tier}: the models cost {cost} micro-USD, estimated {estimate}");
        assert!(cost <= estimate && estimate <= cost * 20, "{tier}: {cost} of {estimate}");
        let sql = "SELECT cancelled_run_cost(jsonb_populate_record(a, '{\"run_id\": \"run_00000000000000000000000000000000\"}')) FROM analyses a WHERE run_id = $1";
        assert_eq!(world.db.value::<i64>(sql, &[&ended.run_id]).await, Some(estimate));
    }
}
