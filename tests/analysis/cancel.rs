//! Cancellation at any time: once, by members only, and never together with a completion.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, Value, World, json, stack_test, until};

const TIMEOUT: Duration = Duration::from_mins(1);

async fn until_scraping(world: &World, handle: &str) {
    until("an Actor run", TIMEOUT, || async { world.calls("apify", handle).await.into_iter().find(|call| call["op"] == "poll") }).await;
}

async fn assert_cancelled(account: &Account, run_id: &str, credits: i32, balance: i32) {
    let progress = account.progress(run_id).await;
    assert_eq!((&progress["status"], &progress["error"]), (&json!("cancelled"), &json!(null)), "{progress}");
    account.assert_refund_recorded(run_id, credits, balance).await;
    account.result(run_id).await.problem(409, "ANALYSIS_CANCELLED");
}

/// Returns the cost of a run that has ended, in micro-USD, and how many of its calls have no known cost.
async fn cost_of(world: &World, run_id: &str) -> (Option<i64>, Option<i64>) {
    let sql = "SELECT total_cost_micro_usd, (cost ->> 'unknown_calls')::int8 FROM analyses WHERE run_id = $1";
    let row = world.db.rows(sql, &[&run_id]).await.remove(0);
    (row.get(0), row.get(1))
}

#[stack_test(alone)]
async fn a_run_cancelled_before_its_admission_is_refunded(world: Arc<World>) {
    let account = world.account(9).await;
    // The admission waits for the balance, and the cancellation arrives meanwhile.
    let holder = world.db.connect().await;
    let lock = format!("BEGIN; SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE", account.id);
    holder.batch_execute(&lock).await.unwrap();
    let run_id = account.start(&world.handle("early"), "deep").await;
    world.until_waiting("admit_analysis").await;
    let cancelling = tokio::spawn({
        let (account, run_id) = (account.clone(), run_id.clone());
        async move { account.cancel(&run_id).await }
    });
    world.until_waiting("cancel_analysis").await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(cancelling.await.unwrap().data(200)["status"], json!("cancelled"));
    assert_cancelled(&account, &run_id, 3, 9).await;
}

#[stack_test]
async fn a_run_with_progress_only_stays_cancelled(world: Arc<World>) {
    let account = world.account(9).await;
    let owner: Option<String> = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await;
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let run = json!({
        "run_id": run_id, "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": owner,
        "username": world.handle("ghost"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    world.put_progress(&run).await;
    assert_eq!(account.progress(&run_id).await["status"], json!("pending"));
    account.result(&run_id).await.problem(425, "NOT_COMPLETE");
    assert_eq!(account.cancel(&run_id).await.data(200)["credits_refunded"], json!(0));
    // The late admission finds the run cancelled and charges nothing.
    assert_eq!(world.invoke("admit", &json!({ "run": run, "steps": [] })).await, Err("Terminal".to_owned()));
    assert_eq!((account.entries(&run_id).await, account.balance().await), (vec![], 9));
    assert_eq!(account.progress(&run_id).await["status"], json!("cancelled"));
}

/// The function does not rely on the endpoint: it rejects what the API would not send.
#[stack_test]
async fn a_cancellation_records_only_fresh_runs_of_the_caller(world: Arc<World>) {
    let (account, other) = (world.account(9).await, world.account(9).await);
    let (user, other_user) = (account.owner().await, other.owner().await);
    let client = world.db.connect().await;
    let claims = format!("SELECT set_config('request.jwt.claims', '{{\"sub\":\"{user}\"}}', false); SET ROLE oslira_api");
    client.batch_execute(&claims).await.unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let fresh = || format!("run_{}", uuid::Uuid::now_v7().simple());
    let seed = json!({
        "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": user,
        "username": world.handle("ghost"), "tier": "light", "requested_at_ms": now,
    });
    let with = |field: &str, value: Value| {
        let mut seed = seed.clone();
        seed[field] = value;
        (fresh(), seed)
    };
    let aged = |ms: i64| format!("run_{:012x}70008000000000000000", now + ms);
    let lies = [
        with("tier", json!("gold")),
        with("tier", json!(null)),
        with("username", json!("Not A Handle")),
        with("username", json!("a..b")),
        with("username", json!(null)),
        with("requested_by", json!(other_user)),
        with("requested_by", json!(null)),
        with("account_id", json!(other.id)),
        with("business_profile_id", json!(other.business_profile_id)),
        with("business_profile_id", json!(null)),
        with("requested_at_ms", json!(0)),
        with("requested_at_ms", json!(now + 3_600_000)),
        with("requested_at_ms", json!(null)),
        (fresh(), json!([])),
        (fresh(), json!(null)),
        ("run_ffffffffffffffffffffffffffffffff".to_owned(), seed.clone()),
        (format!("run_{}", uuid::Uuid::new_v4().simple()), seed.clone()),
        (aged(-2 * 3_600_000), seed.clone()),
        (aged(3_600_000), seed.clone()),
        ("nonsense".to_owned(), seed.clone()),
    ];
    for (run_id, seed) in &lies {
        let outcome: Value = client.query_one("SELECT cancel_analysis($1, $2)", &[run_id, seed]).await.unwrap().get(0);
        assert_eq!(outcome, json!({ "outcome": "not_found" }), "{run_id} {seed}");
    }
    assert_eq!((account.runs().await, other.runs().await), (0, 0));
    let outcome: Value = client.query_one("SELECT cancel_analysis($1, $2)", &[&fresh(), &seed]).await.unwrap().get(0);
    assert_eq!((&outcome["outcome"], &outcome["newly"], &outcome["credits_refunded"]), (&json!("cancelled"), &json!(true), &json!(0)));
    assert_eq!((account.runs().await, account.balance().await), (1, 9));
    // No more of them than the API would have started.
    let flood = "SELECT count(*) FILTER (WHERE outcome = 'cancelled') FROM (SELECT cancel_analysis(id, $1) ->> 'outcome' AS outcome FROM unnest($2::text[]) id) o";
    let ids: Vec<String> = (0..150).map(|_| fresh()).collect();
    client.query_one(flood, &[&seed, &ids]).await.unwrap();
    let more: i64 = client.query_one(flood, &[&seed, &[fresh()].to_vec()]).await.unwrap().get(0);
    assert_eq!(more, 0);
}

#[stack_test]
async fn a_task_that_waited_for_a_cancellation_sees_it(world: Arc<World>) {
    let account = world.account(9).await;
    let user = account.owner().await;
    let calls = ["SELECT status FROM begin_task($1)", "SELECT status FROM begin_analysis($1)", "SELECT record_scrape_run($1, 'late')"];
    for call in calls {
        let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
        let seed = json!({
            "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": user,
            "username": world.handle("waited"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        let admitted: Option<Value> = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &seed]).await;
        assert_eq!(admitted.unwrap()["outcome"], json!("admitted"));
        let (canceller, task) = (world.db.connect().await, world.db.connect().await);
        let cancel = format!(
            "BEGIN; SELECT set_config('request.jwt.claims', '{{\"sub\":\"{user}\"}}', true); SET LOCAL ROLE oslira_api; SELECT cancel_analysis('{run_id}')"
        );
        canceller.batch_execute(&cancel).await.unwrap();
        let pid: i32 = task.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let waiting = tokio::spawn({
            let run_id = run_id.clone();
            async move { task.query(call, &[&run_id]).await.unwrap().first().and_then(|row| row.get::<_, Option<String>>(0)) }
        });
        let sql = "SELECT 1 WHERE cardinality(pg_blocking_pids($1)) > 0";
        until("the wait", TIMEOUT, || async { world.db.value::<i32>(sql, &[&pid]).await }).await;
        canceller.batch_execute("COMMIT").await.unwrap();
        let found = waiting.await.unwrap();
        assert!(found.is_none() || found.as_deref() == Some("cancelled"), "{call}: {found:?}");
        account.assert_refund_recorded(&run_id, 1, 9).await;
    }
}

#[stack_test]
async fn a_cancellation_during_the_scrape_refunds_and_aborts_the_actor_run(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("scraping");
    world.slow_scrape(&handle, 60_000).await;
    let run_id = account.start(&handle, "deep").await;
    until_scraping(&world, &handle).await;
    account.cancel(&run_id).await.data(200);
    assert_cancelled(&account, &run_id, 3, 9).await;
    until("the abort", TIMEOUT, || async { world.calls("apify", &handle).await.into_iter().find(|call| call["op"] == "abort") }).await;
    // The end of the execution changes nothing.
    world.execution_ended(&run_id).await;
    assert_cancelled(&account, &run_id, 3, 9).await;
    // The cost of the Actor run until then is recorded.
    let sql = "SELECT sum(cost_micro_usd)::int8 FROM ai_usage_logs WHERE run_id = $1 AND provider = 'apify'";
    until("the recorded cost", TIMEOUT, || async { world.db.value::<i64>(sql, &[&run_id]).await }).await;
    let billed = Some(world.bill(&handle).await);
    assert_eq!((world.db.value::<i64>(sql, &[&run_id]).await, cost_of(&world, &run_id).await.0), (billed, billed));
}

#[stack_test]
async fn a_cancellation_during_the_analysis_refunds_and_aborts_the_questions(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("thinking");
    // Longer than the timeouts of the models, which would be tried again.
    world.slow_model("openai", &handle, 20_000).await;
    let run_id = account.start(&handle, "xray").await;
    until("a question", TIMEOUT, || async { world.calls("openai", &handle).await.into_iter().next() }).await;
    account.cancel(&run_id).await.data(200);
    assert_cancelled(&account, &run_id, 5, 9).await;
    world.execution_ended(&run_id).await;
    // The questions were aborted: no provider was asked again, and what they cost is unknown and recorded as such.
    let sql = "SELECT count(*) FROM ai_usage_logs WHERE run_id = $1 AND provider = 'openai' AND NOT cost_known";
    until("the recorded questions", TIMEOUT, || async { world.db.value::<i64>(sql, &[&run_id]).await.filter(|recorded| *recorded == 4) })
        .await;
    assert_eq!(cost_of(&world, &run_id).await.1, Some(4));
    assert_eq!((world.calls("openai", &handle).await.len(), world.calls("anthropic", &handle).await.len()), (4, 0));
    assert_cancelled(&account, &run_id, 5, 9).await;
}

#[stack_test]
async fn cancelling_twice_refunds_once(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("twice");
    world.slow_scrape(&handle, 60_000).await;
    let run_id = account.start(&handle, "light").await;
    until_scraping(&world, &handle).await;
    let answers = futures::future::join_all((0..5).map(|_| account.cancel(&run_id))).await;
    for answer in answers {
        let data = answer.data(200);
        assert_eq!((&data["status"], &data["credits_refunded"]), (&json!("cancelled"), &json!(1)));
    }
    assert_cancelled(&account, &run_id, 1, 9).await;
}

#[stack_test]
async fn a_completed_run_cannot_be_cancelled(world: Arc<World>) {
    let account = world.account(9).await;
    let ended = account.run(&world.handle("late"), "light").await;
    account.cancel(&ended.run_id).await.problem(409, "ALREADY_COMPLETE");
    assert_eq!(account.entries(&ended.run_id).await, [("analysis".to_owned(), -1)]);
    assert_eq!(account.result(&ended.run_id).await.status, 200);
    let failed = account.run(&world.handle("private"), "light").await;
    account.cancel(&failed.run_id).await.problem(409, "ALREADY_COMPLETE");
    account.assert_refund_recorded(&failed.run_id, 1, 8).await;
}

#[stack_test]
async fn another_account_cannot_cancel(world: Arc<World>) {
    let (account, other) = (world.account(9).await, world.account(9).await);
    let handle = world.handle("mine");
    world.slow_scrape(&handle, 3000).await;
    let run_id = account.start(&handle, "light").await;
    until_scraping(&world, &handle).await;
    other.cancel(&run_id).await.problem(404, "NOT_FOUND");
    assert_eq!(account.entries(&run_id).await, [("analysis".to_owned(), -1)]);
    assert_eq!(account.ended(&run_id).await.status(), "completed");
}

/// Races 200 times. A cancellation that wins is sent later the next time, and one that loses earlier, so that both sides stay close.
#[stack_test(alone)]
async fn a_cancellation_and_a_completion_never_both_succeed(world: Arc<World>) {
    let races = (0..10).map(|_| {
        let world = world.clone();
        async move {
            let account = world.account(25).await;
            let handle = world.handle("race");
            assert_eq!(account.run(&handle, "light").await.status(), "completed"); // cached from now on
            let (mut wait, mut cancelled, mut completed) = (Duration::from_millis(500), 0, 0);
            for _ in 0..20 {
                let run_id = account.start(&handle, "light").await;
                tokio::time::sleep(wait).await;
                let answer = account.cancel(&run_id).await;
                let won = answer.status == 200;
                if !won {
                    answer.problem(409, "ALREADY_COMPLETE");
                }
                world.execution_ended(&run_id).await;
                let entries = account.entries(&run_id).await;
                let status: Option<String> = world.db.value("SELECT status FROM analyses WHERE run_id = $1", &[&run_id]).await;
                let charge = ("analysis".to_owned(), -1);
                let sql = "SELECT ai_response ? 'report' FROM analyses WHERE run_id = $1";
                let has_result: Option<bool> = world.db.value(sql, &[&run_id]).await;
                assert_eq!(has_result, Some(!won));
                if won {
                    assert_eq!(status.as_deref(), Some("cancelled"));
                    assert!(entries.is_empty() || entries == [charge, ("refund".to_owned(), 1)], "{entries:?}");
                    cancelled += 1;
                    wait = wait.mul_f64(1.3);
                } else {
                    assert_eq!((status.as_deref(), entries), (Some("completed"), vec![charge]));
                    completed += 1;
                    wait = wait.mul_f64(0.7);
                }
            }
            assert_eq!(account.balance().await, 24 - completed);
            (cancelled, completed)
        }
    });
    let wins = futures::future::join_all(races).await;
    let (cancelled, completed) = wins.into_iter().fold((0, 0), |sum, race| (sum.0 + race.0, sum.1 + race.1));
    println!("200 races: {cancelled} cancelled, {completed} completed");
    assert_eq!(cancelled + completed, 200);
    assert!(cancelled > 0 && completed > 0, "{cancelled} {completed}");
}
