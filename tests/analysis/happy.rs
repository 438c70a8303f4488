//! Runs that succeed: a result, charged once.

use std::sync::Arc;

use crate::harness::{World, json, stack_test};

#[stack_test]
async fn every_tier_completes_charges_once_and_costs_what_vendors_billed(world: Arc<World>) {
    let account = world.account(9).await;
    let mut balance = 9;
    for (tier, credits) in [("light", 1), ("deep", 3), ("xray", 5)] {
        let handle = world.handle(tier);
        let ended = account.run(&handle, tier).await;
        assert_eq!(ended.status(), "completed", "{}", ended.progress);
        balance -= credits;
        assert_eq!(account.entries(&ended.run_id).await, [("analysis".to_owned(), -credits)]);
        assert_eq!(account.balance().await, balance);
        let result = account.result(&ended.run_id).await.data(200);
        assert_eq!(result["credits_charged"], json!(credits));
        assert_eq!(result["actual_cost_micro_usd"].as_i64(), Some(world.bill(&handle).await), "{tier}: {}", result["cost"]);
    }
}

#[stack_test]
async fn a_second_run_of_a_handle_hits_the_cache(world: Arc<World>) {
    let account = world.account(25).await;
    let handle = world.handle("cached");
    let first = account.run(&handle, "light").await;
    let second = account.run(&handle, "light").await;
    assert_eq!(world.calls("apify", &handle).await.iter().filter(|call| call["op"] == "start").count(), 1);
    let (first, second) = (account.result(&first.run_id).await.data(200), account.result(&second.run_id).await.data(200));
    assert_eq!((&first["cache_hit"], &second["cache_hit"]), (&json!(false), &json!(true)));
    assert_eq!(first["lead_id"], second["lead_id"]);
}
