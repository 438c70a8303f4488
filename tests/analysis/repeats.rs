//! Every task delivered again with the very input that it had: the second time changes nothing and costs nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, Value, World, json, stack_test, until};

/// Everything that a repeat could change, as one value.
pub async fn picture(account: &Account, handle: &str) -> Value {
    let sql = "SELECT jsonb_build_object(
        'runs', (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.run_id) FROM analyses a WHERE a.account_id = p.id),
        'leads', (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.id) FROM leads l WHERE l.account_id = p.id),
        'ledger', (SELECT jsonb_agg(to_jsonb(c) ORDER BY c.entry_no) FROM credit_ledger c WHERE c.account_id = p.id),
        'balance', (SELECT to_jsonb(b) FROM credit_balances b WHERE b.account_id = p.id),
        'usage', (SELECT jsonb_agg(to_jsonb(u) ORDER BY u.id) FROM ai_usage_logs u WHERE u.account_id = p.id))
        FROM (SELECT $1::text::uuid AS id) p";
    let world = &account.world;
    let rows: Value = world.db.value(sql, &[&account.id]).await.unwrap();
    let bucket = &world.stack.outputs()["ProfileBucketName"];
    let entry = world.s3.head_object().bucket(bucket).key(format!("instagram:{handle}:v1")).send().await;
    let entry = entry.ok().and_then(|entry| entry.e_tag);
    json!({ "rows": rows, "entry": entry, "bill": world.bill(handle).await })
}

/// The function behind a state.
fn function(state: &str) -> &'static str {
    match state {
        "Admit" => "admit",
        "Fetch" => "fetch",
        "Analyze" => "analyze",
        "Save" => "save",
        "Compensate" => "compensate",
        other => panic!("unknown state {other}"),
    }
}

/// Delivers every task of the run again, in order and then in reverse, and asserts that nothing changes. Returns their states.
async fn repeat_all(account: &Account, run_id: &str, handle: &str) -> Vec<String> {
    account.world.execution_ended(run_id).await;
    let tasks = account.world.task_inputs(run_id).await;
    let before = picture(account, handle).await;
    for (state, input) in tasks.iter().chain(tasks.iter().rev()) {
        // Some return what they returned before, some that the run has ended: both are right, as long as nothing changes.
        let outcome = account.world.invoke(function(state), input).await;
        assert_eq!(picture(account, handle).await, before, "{state}: {outcome:?}");
    }
    tasks.into_iter().map(|(state, _)| state).collect()
}

#[stack_test]
async fn repeated_tasks_of_a_completed_run_change_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("again");
    let ended = account.run(&handle, "deep").await;
    assert_eq!(ended.status(), "completed");
    let repeated = repeat_all(&account, &ended.run_id, &handle).await;
    assert_eq!(repeated, ["Admit", "Fetch", "Analyze", "Save"]);
    assert!(picture(&account, &handle).await["entry"].is_string(), "the profile is cached");
    let save = world.task_inputs(&ended.run_id).await.into_iter().find(|(state, _)| state == "Save").unwrap().1;
    let mut failed = save.clone();
    failed["error"] = json!({ "Error": "ModelUnavailable", "Cause": "late" });
    let before = picture(&account, &handle).await;
    let answer = world.invoke("compensate", &failed).await.unwrap();
    assert_eq!((&answer["status"], &answer["credits_refunded"]), (&json!("completed"), &json!(0)));
    assert_eq!(picture(&account, &handle).await, before);
}

#[stack_test]
async fn repeated_tasks_of_a_failed_run_change_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("private");
    let ended = account.run(&handle, "light").await;
    account.assert_refunded(&ended, "PROFILE_PRIVATE", 1, 9).await;
    assert_eq!(repeat_all(&account, &ended.run_id, &handle).await, ["Admit", "Fetch", "Compensate"]);
}

#[stack_test]
async fn repeated_tasks_of_a_cancelled_run_change_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("again");
    world.slow_scrape(&handle, 20_000).await;
    let run_id = account.start(&handle, "light").await;
    until("an Actor run", Duration::from_mins(1), || async {
        world.calls("apify", &handle).await.into_iter().find(|call| call["op"] == "poll")
    })
    .await;
    account.cancel(&run_id).await.data(200);
    until("the abort", Duration::from_mins(1), || async {
        world.calls("apify", &handle).await.into_iter().find(|call| call["op"] == "abort")
    })
    .await;
    let repeated = repeat_all(&account, &run_id, &handle).await;
    assert_eq!(repeated[..2], ["Admit", "Fetch"]);
    account.assert_refund_recorded(&run_id, 1, 9).await;
}

#[stack_test]
async fn a_task_that_runs_twice_at_once_pays_once(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("twins");
    world.slow_scrape(&handle, 3000).await;
    let run_id = account.start(&handle, "light").await;
    let sql = "SELECT scrape_run_id FROM analyses WHERE run_id = $1 AND scrape_run_id IS NOT NULL";
    until("the Actor run", Duration::from_mins(1), || async { world.db.value::<String>(sql, &[&run_id]).await }).await;
    let inputs = world.task_inputs(&run_id).await;
    let input = |state: &str| inputs.iter().find(|(name, _)| name == state).unwrap().1.clone();
    let (admit, fetch) = (input("Admit"), input("Fetch"));
    let (admitted, one, two) = tokio::join!(world.invoke("admit", &admit), world.invoke("fetch", &fetch), world.invoke("fetch", &fetch));
    assert!(admitted.is_ok(), "{admitted:?}");
    // One that is delivered after the end fails with it; while the run lasts both wait for the same Actor run.
    for outcome in [one, two] {
        assert!(outcome.is_ok() || outcome == Err("Terminal".to_owned()), "{outcome:?}");
    }
    let ended = account.ended(&run_id).await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    assert_eq!(account.entries(&run_id).await, [("analysis".to_owned(), -1)]);
    let starts = world.calls("apify", &handle).await.into_iter().filter(|call| call["op"] == "start").count();
    assert_eq!(starts, 1);
    let recorded: Option<i64> =
        world.db.value("SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE run_id = $1", &[&run_id]).await;
    assert_eq!(recorded, Some(world.bill(&handle).await));
}

#[stack_test]
async fn concurrent_deliveries_that_both_start_an_actor_record_both(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("twins");
    world.slow_scrape(&handle, 2000).await;
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let run = json!({
        "run_id": run_id, "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
        "username": handle, "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    world.invoke("admit", &json!({ "run": run, "steps": [] })).await.unwrap();
    let input = json!({ "run": run, "retry_count": 0 });
    // Both read whether an Actor run is recorded before either starts one.
    let row = world.db.connect().await;
    row.batch_execute(&format!("BEGIN; SELECT 1 FROM analyses WHERE run_id = '{run_id}' FOR UPDATE")).await.unwrap();
    let (one, two, ()) = tokio::join!(world.invoke("fetch", &input), world.invoke("fetch", &input), async {
        world.until_all_waiting(2, "begin_task").await;
        row.batch_execute("COMMIT").await.unwrap();
    });
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let count = async |op: &str| world.calls("apify", &handle).await.iter().filter(|call| call["op"] == op).count();
    assert_eq!(count("start").await, 1 + count("abort").await, "the loser's is aborted");
    let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE run_id = $1";
    assert_eq!(world.db.value::<i64>(sql, &[&run_id]).await, Some(world.bill(&handle).await));
    world.db.rows("SELECT fail_run($1, 'ABORTED')", &[&run_id]).await;
    account.assert_refund_recorded(&run_id, 1, 9).await;
}

#[stack_test]
async fn the_rule_on_ended_executions_changes_nothing_that_is_settled(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("settled");
    let run_id = account.run(&handle, "light").await.run_id;
    let before = picture(&account, &handle).await;
    for status in ["ABORTED", "TIMED_OUT", "FAILED"] {
        let event = |name: &str| {
            json!({
                "source": "aws.states", "detail-type": "Step Functions Execution Status Change",
                "detail": { "name": name, "status": status, "executionArn": world.execution_arn(&run_id), "input": null },
            })
        };
        let message = |id: &str, body: String| json!({ "messageId": id, "body": body, "attributes": {}, "messageAttributes": {} });
        // A message that cannot be read stays in the queue, for people. An execution that is no run is ignored.
        let batch = json!({ "Records": [
            message("ours", event(&run_id).to_string()),
            message("not-ours", event("tried-by-hand").to_string()),
            message("garbage", "x".to_owned()),
            message("empty", "{}".to_owned()),
        ] });
        let answer = world.invoke("compensate", &batch).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "garbage" }, { "itemIdentifier": "empty" }] }));
    }
    for garbage in [json!({}), json!([]), json!("x"), json!({ "run": { "run_id": "x" } })] {
        assert_eq!(world.invoke("compensate", &garbage).await, Err("Terminal".to_owned()), "{garbage}");
    }
    assert_eq!(picture(&account, &handle).await, before);
}
