//! `GET /api/cache/statistics`

use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

async fn statistics(account: &Account) -> Value {
    account.get("/api/cache/statistics").await.data(200)
}

#[stack_test]
async fn statistics_are_counts_without_names(world: Arc<World>) {
    let (account, other) = (world.account(1).await, world.account(0).await);
    let handle = world.handle("counted");
    account.lead(&handle).await;
    let size = world.cached(&handle).await.unwrap().len();
    let data = statistics(&other).await;
    let contents = &data["cache_statistics"];
    let count = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no count: {data}"));
    let total = count(&contents["total_cached"]);
    assert!(total >= 1 && count(&contents["total_bytes"]) >= size as u64);
    for tier in ["light", "deep", "xray"] {
        assert_eq!(count(&contents["by_type"][tier]), total, "everything in this stack is younger than six hours");
        assert!(count(&contents["avg_age_seconds_by_type"][tier]) < 6 * 3600);
    }
    assert!(count(&contents["avg_age_seconds"]) < 6 * 3600);
    assert_eq!(contents["truncated"], json!(false));
    assert_eq!(data["ttl_config"], json!({ "light": "24 hours", "deep": "12 hours", "xray": "6 hours" }));
    assert_eq!(data["invalidation_triggers"].as_array().unwrap().len(), 5);
    let text = data.to_string();
    assert!(!text.contains(&handle) && !text.contains("instagram:"), "{text}");
}

#[stack_test]
async fn statistics_are_for_members(world: Arc<World>) {
    let (account, other) = (world.account(0).await, world.account(0).await);
    assert_eq!(world.send(world.http.get(world.url("/api/cache/statistics"))).await.status, 401);
    let request = world.http.get(world.url("/api/cache/statistics")).bearer_auth(&account.token).header("x-account-id", &other.id);
    world.send(request).await.problem(403, "FORBIDDEN");
}

#[stack_test(alone)]
async fn cache_look_ups_are_counted(world: Arc<World>) {
    let account = world.account(3).await;
    let handle = world.handle("looked");
    let looks = |data: &Value| {
        let contents = &data["cache_statistics"];
        let [hits, misses] = ["hits", "misses"].map(|field| u32::try_from(contents[field].as_u64().unwrap()).unwrap());
        let rate = contents["hit_rate"].as_f64();
        let expected = (hits + misses > 0).then(|| f64::from(hits) / f64::from(hits + misses));
        assert!(rate.is_some() == expected.is_some() && (rate.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 0.0001, "{data}");
        (hits, misses)
    };
    let (hits, misses) = looks(&statistics(&account).await);
    for _ in 0..3 {
        account.lead(&handle).await;
    }
    assert_eq!(looks(&statistics(&account).await), (hits + 2, misses + 1));
}
