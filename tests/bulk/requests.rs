//! Bulk requests and their responses.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;

use super::Batch;
use crate::harness::{Value, World, json, stack_test};

#[stack_test]
async fn one_to_a_hundred_handles(world: Arc<World>) {
    let account = world.account(5).await;
    for count in [0, 101] {
        let body = account.bulk(&world.handles("bounds", count), "light").await.problem(400, "VALIDATION_ERROR");
        assert_eq!(body["details"][0]["path"], "usernames", "{body}");
    }
    let body = account.bulk(&["a b".to_owned(), String::new()], "light").await.problem(400, "VALIDATION_ERROR");
    assert_eq!((&body["details"][0]["path"], &body["details"][1]["path"]), (&json!("usernames[0]"), &json!("usernames[1]")), "{body}");
    let all = account.post("/api/leads/analyze/bulk", &json!({ "usernames": [1], "extra": true })).await.problem(400, "VALIDATION_ERROR");
    let paths: Vec<&Value> = all["details"].as_array().unwrap().iter().map(|fault| &fault["path"]).collect();
    assert_eq!(paths, ["usernames", "businessProfileId", "analysisType", "extra"]);
    let one = account.start_batch(&world.handles("bounds", 1), "xray").await;
    assert_eq!(Batch::endings(&one.ended().await).into_values().collect::<Vec<_>>(), ["completed"]);
    assert_eq!(account.balance().await, 0);
}

#[stack_test]
async fn handles_with_live_runs_are_reported_one_by_one(world: Arc<World>) {
    let account = world.account(9).await;
    let (busy, free) = (world.handle("busy"), world.handle("free"));
    world.slow_scrape(&busy, 20_000).await;
    let running = account.start(&busy, "light").await;
    crate::harness::until("its admission", super::TIMEOUT, || async {
        world.db.value::<String>("SELECT status FROM analyses WHERE run_id = $1", &[&running]).await
    })
    .await;
    let batch = account.start_batch(&[busy.clone(), free.clone()], "light").await;
    let refused = &batch.started["analyses"][0];
    assert_eq!(
        (&refused["status"], &refused["error"]["code"], &refused["error"]["run_id"]),
        (&json!("failed"), &json!("DUPLICATE_ANALYSIS"), &json!(running))
    );
    let body = account.bulk(std::slice::from_ref(&busy), "light").await.problem(409, "DUPLICATE_ANALYSIS");
    assert_eq!(body["details"]["analyses"][0]["error"]["run_id"], json!(running), "{body}");
    assert_eq!(Batch::endings(&batch.ended().await).into_iter().collect::<Vec<_>>(), [(free, "completed".to_owned())]);
    account.cancel(&running).await.data(200);
}

#[stack_test]
async fn a_repeat_gets_the_first_response(world: Arc<World>) {
    let account = world.account(9).await;
    let handles = world.handles("keyed", 2);
    let first = account.bulk_with_key(&handles, "light", Some("k1")).await;
    let again = account.bulk_with_key(&handles, "light", Some("k1")).await;
    assert_eq!((first.status, &first.body), (202, &again.body));
    account.bulk_with_key(&handles[..1], "light", Some("k1")).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
    let id = first.body["data"]["batch_id"].as_str().unwrap().to_owned();
    let batch = Batch { account: account.clone(), id, started: first.body["data"].clone() };
    batch.ended().await;
    assert_eq!((account.count_entries("analysis").await, account.balance().await), (2, 7));
    let later = account.bulk_with_key(&handles, "light", Some("k1")).await;
    assert_eq!(later.body, first.body);
    // The longest response is stored as well: a hundred entries, most of which are no handles.
    let longest: Vec<String> =
        (0..100).map(|n| if n == 0 { world.handle("keyed") } else { "\u{1f4a9}".repeat(60) + &n.to_string() }).collect();
    let first = account.bulk_with_key(&longest, "light", Some("k4")).await;
    let again = account.bulk_with_key(&longest, "light", Some("k4")).await;
    assert_eq!((first.status, &first.body), (202, &again.body));
}

#[stack_test]
async fn concurrent_repeats_are_one_batch_and_count_once(world: Arc<World>) {
    let account = world.account(9).await;
    let handles = world.handles("together", 3);
    let all = join_all((0..5).map(|_| account.bulk_with_key(&handles, "light", Some("same")))).await;
    let batches: BTreeSet<&str> = all.iter().filter_map(|answer| answer.body["data"]["batch_id"].as_str()).collect();
    assert_eq!(batches.len(), 1, "{all:?}");
    for answer in all.iter().filter(|answer| answer.status != 202) {
        assert_eq!((answer.status, answer.body["code"].as_str()), (409, Some("IDEMPOTENCY_KEY_IN_USE")), "{}", answer.body);
    }
    assert_eq!((account.counted("bulk_requests").await, account.counted("analyses").await), (1, 3));
    account.bulk_with_key(&handles, "light", Some("same")).await.data(202);
    assert_eq!((account.counted("bulk_requests").await, account.counted("analyses").await), (1, 3));
}

/// The process dies after its commit and before it sends to the queue: simulated by what it has written by then.
#[stack_test]
async fn a_repeat_queues_the_groups_of_a_process_that_died(world: Arc<World>) {
    let (account, begun) = (world.account(9).await, jiff::Timestamp::now());
    let handles = world.handles("resumed", 2);
    let first = account.bulk_with_key(&handles, "light", Some("k2")).await.data(202);
    let batch = Batch { account: account.clone(), id: first["batch_id"].as_str().unwrap().to_owned(), started: first.clone() };
    batch.cancel().await.data(200);
    world.until_logged("bulk_groups", begun, &["looked up", &batch.id], 1).await;
    let reopened = "UPDATE idempotency_keys SET answer = NULL, claimed_at = '-infinity' WHERE account_id = $1::text::uuid AND key = 'k2'";
    world.db.rows(reopened, &[&account.id]).await;
    let again = account.bulk_with_key(&handles, "light", Some("k2")).await.data(202);
    assert_eq!(again["batch_id"], first["batch_id"]);
    assert_eq!(again["analyses"], first["analyses"]);
    assert_eq!((account.balance().await, account.count_entries("analysis").await), (9, 0));
}

#[stack_test]
async fn the_hourly_limit_counts_handles(world: Arc<World>) {
    let account = world.account(300).await;
    let first = account.start_batch(&world.handles("many", 60), "light").await;
    first.cancel().await.data(200);
    let refused = account.bulk(&world.handles("many", 41), "light").await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(429, "RATE_LIMIT_EXCEEDED");
    for _ in 0..3 {
        account.start_batch(&world.handles("few", 1), "light").await.cancel().await.data(200);
    }
    account.bulk(&world.handles("few", 1), "light").await.problem(429, "RATE_LIMIT_EXCEEDED");
}

/// The function does not rely on the endpoint: it rejects what the API would not send.
#[stack_test]
async fn the_function_that_records_a_batch_checks_everything_itself(world: Arc<World>) {
    let (other, account) = (world.account(5).await, world.account(5).await);
    let user: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    let client = world.db.connect().await;
    let claims = json!({ "sub": user, "role": "authenticated" }).to_string();
    let id = |prefix: &str| format!("{prefix}_{}", uuid::Uuid::now_v7().simple());
    let attempt = async |account: &str, profile: &str, tier: &str, batch: &str, runs: Value| -> Result<String, String> {
        client.batch_execute("BEGIN; SET LOCAL ROLE oslira_api").await.unwrap();
        client.query("SELECT set_config('request.jwt.claims', $1, true)", &[&claims]).await.unwrap();
        let sql = "SELECT create_bulk_analyses($1::text::uuid, $2::text::uuid, $3, $4, $5) ->> 'outcome'";
        let answer = client.query_one(sql, &[&account, &profile, &tier, &batch, &runs]).await;
        let answer = answer.map(|row| row.get::<_, String>(0)).map_err(|error| error.as_db_error().unwrap().code().code().to_owned());
        client.batch_execute("ROLLBACK").await.unwrap();
        answer
    };
    let run = |handle: &str| json!([{ "run_id": id("run"), "username": handle }]);
    let (own, profile) = (account.id.as_str(), account.business_profile_id.as_str());
    assert_eq!(attempt(own, profile, "light", &id("batch"), run("nike")).await, Ok("created".to_owned()));
    assert_eq!(attempt(&other.id, profile, "light", &id("batch"), run("nike")).await, Ok("no_account".to_owned()));
    assert_eq!(attempt(own, &other.business_profile_id, "light", &id("batch"), run("nike")).await, Ok("no_profile".to_owned()));
    let many: Vec<Value> = (0..101).map(|n| json!({ "run_id": id("run"), "username": format!("h{n}") })).collect();
    let old = json!([{ "run_id": "run_019300000000700080000000000000ff", "username": "nike" }]);
    for (tier, batch, runs) in [
        ("light", id("batch"), json!(many)),
        ("light", id("batch"), json!([])),
        ("light", id("batch"), json!({})),
        ("light", id("batch"), old),
        ("light", id("batch"), run("a..b")),
        ("light", "batch_019300000000700080000000000000ff".to_owned(), run("nike")),
        ("gold", id("batch"), run("nike")),
    ] {
        assert_eq!(attempt(own, profile, tier, &batch, runs.clone()).await, Err("OS400".to_owned()), "{tier} {batch} {runs}");
    }
}

/// Sixty connections at once, each with a key of its own, record no more runs than the API's limits allow; nor do deleted leads make room.
#[stack_test]
async fn the_hourly_bound_holds_by_the_database(world: Arc<World>) {
    let account = world.account(300).await;
    let user: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    let claims = json!({ "sub": user, "role": "authenticated" }).to_string();
    let (own, profile) = (account.id.as_str(), account.business_profile_id.as_str());
    let id = |prefix: &str| format!("{prefix}_{}", uuid::Uuid::now_v7().simple());
    let sql = "SELECT create_bulk_analyses($1::text::uuid, $2::text::uuid, 'light', $3, $4, $5, $6) ->> 'outcome'";
    let call = async |call: usize| {
        let client = world.db.connect().await;
        client.query("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
        client.batch_execute("SET ROLE oslira_api").await.unwrap();
        let runs: Vec<Value> = (0..10).map(|n| json!({ "run_id": id("run"), "username": format!("pile_{call}_{n}") })).collect();
        let (key, hash) = (format!("pile-{call}"), "0".repeat(64));
        client.query_one(sql, &[&own, &profile, &id("batch"), &json!(runs), &key, &hash]).await.unwrap().get::<_, String>(0)
    };
    let mut outcomes = futures::future::join_all((0..60).map(&call)).await;
    outcomes.sort();
    assert_eq!(outcomes, [vec!["created"; 20], vec!["too_many"; 40]].concat());
    // What a deleted lead leaves: its runs, marked as deleted.
    let of_account = "analyses WHERE account_id = $1::text::uuid";
    world.db.rows(&format!("SELECT fail_run(run_id, 'ABORTED') FROM {of_account}"), &[&own]).await;
    world.db.rows("UPDATE analyses SET deleted_at = now() WHERE account_id = $1::text::uuid RETURNING 1", &[&own]).await;
    assert_eq!(call(60).await, "too_many");
}

#[stack_test(alone)]
async fn an_unreachable_queue_cancels_the_batch(world: Arc<World>) {
    let account = world.account(9).await;
    let url = world.stack.outputs()["BulkGroupsUrl"].clone();
    world.set_variable("start_bulk", "BULK_GROUPS_QUEUE_URL", "http://127.0.0.1:1/000000000000/nowhere").await;
    let handles = world.handles("nowhere", 2);
    let plain = account.bulk(&handles, "light").await;
    let keyed = account.bulk_with_key(&world.handles("nowhere", 2), "light", Some("k3")).await;
    world.set_variable("start_bulk", "BULK_GROUPS_QUEUE_URL", &url).await;
    plain.problem(503, "SERVICE_UNAVAILABLE");
    keyed.problem(503, "SERVICE_UNAVAILABLE");
    let count = async |status: &str| {
        let sql = "SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid AND status = $2";
        world.db.value::<i64>(sql, &[&account.id, &status]).await
    };
    assert_eq!((count("cancelled").await, count("pending").await), (Some(2), Some(2)));
    // The handles are free again, and no run was charged.
    let batch = account.start_batch(&handles, "light").await;
    batch.ended().await;
    assert_eq!(account.balance().await, 7);
}
