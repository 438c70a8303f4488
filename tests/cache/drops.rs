//! `POST /api/leads/{leadId}/force-refresh`

use std::sync::Arc;
use std::time::Duration;

use super::is_fresh;
use crate::harness::{World, json, stack_test, until};

#[stack_test]
async fn a_removed_entry_is_fetched_again(world: Arc<World>) {
    let account = world.account(3).await;
    let handle = world.handle("dropped");
    let lead = account.lead(&handle).await;
    // Twice, because removing an absent entry succeeds as well.
    for _ in 0..2 {
        let data = account.force_refresh(&lead).await.data(200);
        assert_eq!((data["lead_id"].as_str(), data["username"].as_str()), (Some(&*lead), Some(&*handle)));
        assert_eq!(data["cache_invalidated"], json!(true));
        assert!(data["message"].is_string() && data["next_steps"].is_string());
        assert_eq!(world.cached(&handle).await, None);
    }
    assert_eq!((account.lead(&handle).await, world.actor_calls(&handle, "start").await), (lead, 2));
    assert!(is_fresh(&world.entry(&handle).await));
}

#[stack_test]
async fn a_run_in_progress_keeps_the_entry_that_it_started_with(world: Arc<World>) {
    let account = world.account(3).await;
    let handle = world.handle("kept");
    let lead = account.lead(&handle).await;
    world.slow_model("openai", &handle, 2000).await;
    let asked = world.calls("openai", &handle).await.len();
    let run_id = account.start(&handle, "light").await;
    until("the question", Duration::from_mins(1), || async { (world.calls("openai", &handle).await.len() > asked).then_some(()) }).await;
    account.force_refresh(&lead).await.data(200);
    assert_eq!(world.cached(&handle).await, None);
    assert_eq!(account.ended(&run_id).await.status(), "completed");
    assert_eq!(account.result(&run_id).await.data(200)["cache_hit"], json!(true));
}

#[stack_test]
async fn an_account_has_ten_removals_an_hour(world: Arc<World>) {
    let (one, other) = (world.account(1).await, world.account(1).await);
    let handle = world.handle("dropper");
    let lead = one.lead(&handle).await;
    let others = other.lead(&handle).await;
    let mut dropped = 0;
    // A new hour may begin meanwhile.
    let refused = loop {
        let answer = one.force_refresh(&lead).await;
        if answer.status == 429 || dropped > 20 {
            break answer;
        }
        assert!(answer.header("ratelimit-policy").unwrap().contains("\"forced_refreshes\";q=10;w=3600"));
        answer.data(200);
        dropped += 1;
    };
    assert!(dropped >= 10 && refused.header("retry-after").is_some());
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    other.force_refresh(&others).await.data(200);
}
