//! Many at once, on one balance and on one handle.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::harness::{Account, World, json, stack_test};

/// How a request or its run ended: `completed`, or a code.
async fn outcome(account: &Account, handle: &str) -> String {
    let answer = account.retried_while_unavailable(|| account.analyze(handle, "light")).await;
    if answer.status != 202 {
        return answer.body["code"].as_str().unwrap_or_default().to_owned();
    }
    let run_id = answer.data(202)["run_id"].as_str().unwrap().to_owned();
    let ended = account.ended(&run_id).await;
    if ended.status() == "failed" { ended.error_code().to_owned() } else { ended.status().to_owned() }
}

fn count(outcomes: Vec<String>) -> BTreeMap<String, usize> {
    outcomes.into_iter().fold(BTreeMap::new(), |mut counts, outcome| {
        *counts.entry(outcome).or_default() += 1;
        counts
    })
}

#[stack_test(alone)]
async fn a_hundred_analyses_on_sixty_credits(world: Arc<World>) {
    let account = world.account(60).await;
    let handles: Vec<String> = (0..100).map(|_| world.handle("crowd")).collect();
    let started = std::time::Instant::now();
    let outcomes = futures::future::join_all(handles.iter().map(|handle| outcome(&account, handle))).await;
    println!("100 LIGHT analyses at once: {:?}", started.elapsed());
    assert_eq!(count(outcomes), BTreeMap::from([("completed".to_owned(), 60), ("INSUFFICIENT_CREDITS".to_owned(), 40)]));
    assert_eq!(account.balance().await, 0);
    let sql = "SELECT count(*) FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2";
    for (kind, expected) in [("analysis", 60), ("refund", 0)] {
        assert_eq!(world.db.value::<i64>(sql, &[&account.id, &kind]).await, Some(expected), "{kind}");
    }
}

#[stack_test(alone)]
async fn fifty_analyses_of_one_handle(world: Arc<World>) {
    let account = world.account(60).await;
    let handle = world.handle("popular");
    // Slow enough that the first is still running when the last arrives.
    world.slow_scrape(&handle, 15_000).await;
    let outcomes = futures::future::join_all((0..50).map(|_| outcome(&account, &handle))).await;
    assert_eq!(count(outcomes), BTreeMap::from([("completed".to_owned(), 1), ("DUPLICATE_ANALYSIS".to_owned(), 49)]));
    assert_eq!(account.balance().await, 59);
    // Whoever was refused later than at once learns which run it was.
    let sql = "SELECT error_details FROM analyses WHERE account_id = $1::text::uuid AND error_code = 'DUPLICATE_ANALYSIS'";
    let winner: Option<String> =
        world.db.value("SELECT run_id FROM analyses WHERE account_id = $1::text::uuid AND status = 'completed'", &[&account.id]).await;
    for row in world.db.rows(sql, &[&account.id]).await {
        assert_eq!(row.get::<_, crate::harness::Value>(0), json!({ "run_id": winner }));
    }
}
