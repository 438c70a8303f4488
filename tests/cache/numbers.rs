//! `GET /api/cache/statistics`

use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

async fn statistics(account: &Account) -> Value {
    account.get("/api/cache/statistics").await.data(200)
}

#[stack_test]
async fn statistics_are_counts_without_names(world: Arc<World>) {
    let account = world.account(9).await;
    let handles = ["counted", "counted"].map(|kind| world.handle(kind));
    for handle in &handles {
        account.lead(handle).await;
    }
    // The second one was fetched seven hours ago: too long for XRAY.
    let sql = format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE analyses SET completed_at = completed_at - interval '7 hours' WHERE username = '{}'; COMMIT",
        handles[1]
    );
    world.db.connect().await.batch_execute(&sql).await.unwrap();
    let data = statistics(&account).await;
    let contents = &data["cache_statistics"];
    assert_eq!((&contents["total_cached"], &contents["by_type"]), (&json!(2), &json!({ "light": 2, "deep": 2, "xray": 1 })));
    let age = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no age: {data}"));
    assert!(
        (12_600..13_000).contains(&age(&contents["avg_age_seconds"])) && age(&contents["avg_age_seconds_by_type"]["xray"]) < 600,
        "{data}"
    );
    assert_eq!(data["ttl_config"], json!({ "light": "24 hours", "deep": "12 hours", "xray": "6 hours" }));
    assert_eq!(data["invalidation_triggers"].as_array().unwrap().len(), 5);
    let text = data.to_string();
    assert!(!handles.iter().any(|handle| text.contains(handle)) && !text.contains("instagram:"), "{text}");
}

/// Which handles other accounts analyze is theirs to know.
#[stack_test]
async fn nothing_shows_that_another_account_asked_before(world: Arc<World>) {
    let (first, second) = (world.account(1).await, world.account(9).await);
    let handle = world.handle("shared");
    first.lead(&handle).await;
    let ended = second.run(&handle, "light").await;
    assert_eq!(world.actor_calls(&handle, "start").await, 1);
    assert_eq!(second.result(&ended.run_id).await.data(200)["cache_hit"], json!(false));
    let contents = statistics(&second).await["cache_statistics"].clone();
    assert_eq!((&contents["total_cached"], &contents["hits"], &contents["misses"]), (&json!(1), &json!(0), &json!(1)));
    // The entry is fresh, but the account's own last analysis was two days ago.
    let sql = "UPDATE leads SET last_analyzed_at = now() - interval '2 days' WHERE account_id = $1::text::uuid RETURNING id::text";
    let lead: String = world.db.value(sql, &[&second.id]).await.unwrap();
    let check = second.post(&format!("/api/leads/{lead}/refresh-check"), &json!({})).await.data(200);
    assert_eq!(check["cache_status"], json!("stale"));
}

#[stack_test]
async fn statistics_are_for_members(world: Arc<World>) {
    let (account, other) = (world.account(0).await, world.account(0).await);
    assert_eq!(world.send(world.http.get(world.url("/api/cache/statistics"))).await.status, 401);
    let request = world.http.get(world.url("/api/cache/statistics")).bearer_auth(&account.token).header("x-account-id", &other.id);
    world.send(request).await.problem(403, "FORBIDDEN");
}

#[stack_test]
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
