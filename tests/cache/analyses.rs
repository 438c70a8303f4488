//! Which cache entry serves which analysis.

use std::sync::Arc;

use super::{aged, is_fresh};
use crate::harness::{Account, World, json, profile_cache_key, stack_test};

/// Whether an analysis fetched the profile.
async fn fetches(account: &Account, handle: &str, tier: &str) -> bool {
    let before = account.world.actor_calls(handle, "start").await;
    let ended = account.run(handle, tier).await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    let fetched = account.world.actor_calls(handle, "start").await > before;
    let result = account.result(&ended.run_id).await.data(200);
    assert_eq!(result["cache_hit"], json!(!fetched), "{tier}");
    fetched
}

#[stack_test]
async fn an_entry_too_old_for_xray_serves_light(world: Arc<World>) {
    let account = world.account(20).await;
    let handle = world.handle("aged");
    account.lead(&handle).await;
    let entry = world.entry(&handle).await;
    assert!(is_fresh(&entry), "{entry}");
    world.put_cached(&handle, aged(&entry, 7 * 3600).to_string()).await;
    assert!(!fetches(&account, &handle, "light").await && !fetches(&account, &handle, "deep").await);
    assert!(fetches(&account, &handle, "xray").await);
    assert!(is_fresh(&world.entry(&handle).await));
}

#[stack_test]
async fn an_entry_too_old_for_all_is_replaced(world: Arc<World>) {
    let account = world.account(20).await;
    let handle = world.handle("aged");
    account.lead(&handle).await;
    let entry = world.entry(&handle).await;
    world.put_cached(&handle, aged(&entry, 13 * 3600).to_string()).await;
    assert!(!fetches(&account, &handle, "light").await);
    assert!(fetches(&account, &handle, "deep").await);
    // An entry that is half a minute younger than a day serves. One that is a second older, or from the future, does not.
    world.put_cached(&handle, aged(&entry, 24 * 3600 - 30).to_string()).await;
    assert!(!fetches(&account, &handle, "light").await);
    for seconds in [24 * 3600 + 1, -3600] {
        world.put_cached(&handle, aged(&entry, seconds).to_string()).await;
        assert!(fetches(&account, &handle, "light").await, "{seconds}");
        assert!(is_fresh(&world.entry(&handle).await));
    }
}

#[stack_test]
async fn an_entry_too_shallow_for_deep_serves_light(world: Arc<World>) {
    let account = world.account(20).await;
    let handle = world.handle("shallow");
    account.lead(&handle).await;
    let mut entry = world.entry(&handle).await;
    entry["depth"] = json!(6);
    world.put_cached(&handle, entry.to_string()).await;
    assert!(!fetches(&account, &handle, "light").await);
    assert!(fetches(&account, &handle, "deep").await);
    assert!(!fetches(&account, &handle, "xray").await, "the new entry is deep enough for all");
}

#[stack_test]
async fn damaged_entries_and_those_of_other_profiles_are_replaced(world: Arc<World>) {
    let account = world.account(20).await;
    let (handle, other) = (world.handle("damaged"), world.handle("other"));
    account.lead(&handle).await;
    let entry = world.entry(&handle).await;
    let (mut foreign, mut renamed, mut private) = (entry.clone(), entry.clone(), entry.clone());
    foreign["version"] = json!(2);
    renamed["profile"]["username"] = json!(other);
    private["profile"]["is_private"] = json!(true);
    let text = entry.to_string();
    let damaged = [
        text[..text.len() / 2].to_owned(),
        String::new(),
        "null".to_owned(),
        foreign.to_string(),
        renamed.to_string(),
        private.to_string(),
    ];
    for content in damaged {
        world.put_cached(&handle, content.clone()).await;
        assert!(fetches(&account, &handle, "light").await, "{content:.40}");
        let replaced = world.entry(&handle).await;
        assert!(is_fresh(&replaced) && replaced["profile"] == entry["profile"], "{content:.40}");
    }
}

#[stack_test]
async fn concurrent_misses_of_a_handle_leave_one_valid_entry(world: Arc<World>) {
    let handle = world.handle("crowd");
    let runs = (0..4).map(|_| {
        let (world, handle) = (world.clone(), handle.clone());
        async move {
            let account = world.account(1).await;
            let ended = account.run(&handle, "light").await;
            assert_eq!(ended.status(), "completed", "{}", ended.progress);
            let result = account.result(&ended.run_id).await.data(200);
            // That another account was faster is not for this one to learn.
            assert_eq!(result["cache_hit"], json!(false), "{result}");
            (result["metrics"].clone(), result["cost"]["apify_micro_usd"] != json!(0))
        }
    });
    let seen = futures::future::join_all(runs).await;
    assert!(seen.iter().all(|(metrics, _)| *metrics == seen[0].0), "all see the same profile");
    let paid = seen.iter().filter(|(_, paid)| *paid).count();
    assert!(paid >= 1 && world.actor_calls(&handle, "start").await == paid, "each Actor run is a cost of the run that started it: {paid}");
    assert!(is_fresh(&world.entry(&handle).await));
}

/// Between two attempts to fetch the profile, another run may have been faster.
#[stack_test]
async fn a_profile_that_was_cached_meanwhile_is_not_fetched_again(world: Arc<World>) {
    let (account, other) = (world.account(5).await, world.account(5).await);
    let handle = world.handle("meanwhile");
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let run = json!({
        "run_id": run_id, "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
        "username": handle, "tier": "xray", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    world.invoke("admit", &json!({ "run": run, "steps": [] })).await.unwrap();
    // Its first attempt finds no entry, and Apify does not start an Actor run.
    world.fault("apify", &handle, Some(1), json!({ "kind": "status", "status": 429 })).await;
    assert_eq!(world.invoke("fetch", &json!({ "run": run, "retry_count": 0 })).await, Err("ScrapeBusy".to_owned()));
    other.lead(&handle).await;
    let retry = json!({ "run": run, "retry_count": 1 });
    let found = world.invoke("fetch", &retry).await.unwrap();
    assert_eq!((&found["hit"], found["at"]["key"].as_str()), (&json!(true), Some(&*profile_cache_key(&handle))));
    assert_eq!((world.actor_calls(&handle, "start").await, account.vendor_costs().await), (2, 0));
    // An entry that is too old for this tier does not count: the profile is fetched.
    let entry = world.entry(&handle).await;
    world.put_cached(&handle, aged(&entry, 7 * 3600).to_string()).await;
    let fetched = world.invoke("fetch", &retry).await.unwrap();
    assert_eq!((&fetched["hit"], world.actor_calls(&handle, "start").await), (&json!(false), 3));
    world.db.rows("SELECT fail_run($1, 'ABORTED')", &[&run_id]).await;
    account.assert_refund_recorded(&run_id, 5, 5).await;
}
