//! Killed processes, executions that are stopped from outside, and a database that restarts: a run completes or is refunded, nothing hangs, and
//! nothing is paid twice.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, Value, World, json, stack_test, until};

const PATIENCE: Duration = Duration::from_mins(1);

async fn until_status(world: &World, run_id: &str, status: &str) {
    let sql = "SELECT 1 FROM analyses WHERE run_id = $1 AND status = $2";
    until(status, PATIENCE, || async { world.db.value::<i32>(sql, &[&run_id, &status]).await }).await;
}

/// Opens a connection that holds a lock until it commits.
async fn holding(world: &World, sql: &str) -> tokio_postgres::Client {
    let client = world.db.connect().await;
    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    client
}

async fn lock_balance(world: &World, account: &Account) -> tokio_postgres::Client {
    holding(world, &format!("SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE", account.id)).await
}

async fn kill(world: &World, binary: &str) {
    assert!(world.kill_function(binary).await > 0, "{binary} was running");
}

/// Asserts that the run completed, charged once.
async fn assert_paid(account: &Account, run_id: &str, credits: i32) {
    let ended = account.ended(run_id).await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    assert_eq!(account.entries(run_id).await, [("analysis".to_owned(), -credits)]);
    assert_eq!(account.balance().await, 9 - credits);
}

#[stack_test(alone)]
async fn executions_stopped_from_outside_are_refunded(world: Arc<World>) {
    let stop = |run_id: String| {
        let world = world.clone();
        async move { world.sfn.stop_execution().execution_arn(world.execution_arn(&run_id)).send().await.unwrap() }
    };
    // While scraping.
    let account = world.account(9).await;
    let handle = world.handle("stopped");
    world.slow_scrape(&handle, 8000).await;
    let run_id = account.start(&handle, "deep").await;
    until("an Actor run", PATIENCE, || async { world.calls("apify", &handle).await.into_iter().next() }).await;
    stop(run_id.clone()).await;
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "ABORTED", 3, 9).await;
    // While a model works on its question.
    let handle = world.handle("stopped");
    world.slow_model("openai", &handle, 2500).await;
    let run_id = account.start(&handle, "light").await;
    until("a question", PATIENCE, || async { world.calls("openai", &handle).await.into_iter().next() }).await;
    stop(run_id.clone()).await;
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "ABORTED", 1, 9).await;
    // While its admission waits.
    let holder = lock_balance(&world, &account).await;
    let run_id = account.start(&world.handle("stopped"), "light").await;
    world.until_waiting("admit_analysis").await;
    stop(run_id.clone()).await;
    // The compensation arrives while the admission is not committed yet, and must still refund what that charges.
    world.until_waiting("fail_run").await;
    holder.batch_execute("COMMIT").await.unwrap();
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "ABORTED", 1, 9).await;
}

#[stack_test(alone)]
async fn executions_stopped_at_any_task_are_settled(world: Arc<World>) {
    let account = world.account(9).await;
    let stop = async |run_id: &str| {
        world.sfn.stop_execution().execution_arn(world.execution_arn(run_id)).send().await.unwrap();
    };
    // While the cache is checked: both the task and the compensation wait for the table.
    let balance = lock_balance(&world, &account).await;
    let run_id = account.start(&world.handle("stopped"), "light").await;
    world.until_waiting("admit_analysis").await;
    let table = world.db.connect().await;
    let locking = tokio::spawn(async move {
        table.batch_execute("BEGIN; LOCK TABLE analyses IN ACCESS EXCLUSIVE MODE").await.unwrap();
        table
    });
    world.until_waiting("LOCK TABLE analyses").await;
    balance.batch_execute("COMMIT").await.unwrap();
    let table = locking.await.unwrap();
    world.until_waiting("begin_task").await;
    stop(&run_id).await;
    world.until_waiting("fail_run").await;
    table.batch_execute("COMMIT").await.unwrap();
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "ABORTED", 1, 9).await;
    // While the refund is recorded: it is recorded once, for the reason that was first.
    let handle = world.handle("private");
    world.slow_scrape(&handle, 5000).await;
    let run_id = account.start(&handle, "light").await;
    until_status(&world, &run_id, "processing").await;
    let balance = lock_balance(&world, &account).await;
    world.until_waiting("fail_run").await;
    stop(&run_id).await;
    world.until_all_waiting(2, "fail_run").await;
    balance.batch_execute("COMMIT").await.unwrap();
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "PROFILE_PRIVATE", 1, 9).await;
    // While the result is saved: it holds the run's lock, so it wins, and the compensation changes nothing.
    let leads = holding(&world, "LOCK TABLE leads IN SHARE MODE").await;
    let run_id = account.start(&world.handle("stopped"), "light").await;
    world.until_waiting("complete_analysis").await;
    stop(&run_id).await;
    world.until_waiting("fail_run").await;
    leads.batch_execute("COMMIT").await.unwrap();
    assert_paid(&account, &run_id, 1).await;
}

#[stack_test(alone)]
async fn a_killed_admission_charges_once(world: Arc<World>) {
    let account = world.account(9).await;
    let holder = lock_balance(&world, &account).await;
    let run_id = account.start(&world.handle("killed"), "light").await;
    world.until_waiting("admit_analysis").await;
    kill(&world, "admit").await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert_paid(&account, &run_id, 1).await;
}

#[stack_test(alone)]
async fn a_killed_fetch_is_repeated(world: Arc<World>) {
    let account = world.account(9).await;
    let balance = lock_balance(&world, &account).await;
    let run_id = account.start(&world.handle("killed"), "light").await;
    world.until_waiting("admit_analysis").await;
    // This lock queues behind the admission's and is granted the moment that commits: the cache check runs into it.
    let table = world.db.connect().await;
    let locking = tokio::spawn(async move {
        table.batch_execute("BEGIN; LOCK TABLE analyses IN ACCESS EXCLUSIVE MODE").await.unwrap();
        table
    });
    world.until_waiting("LOCK TABLE analyses").await;
    balance.batch_execute("COMMIT").await.unwrap();
    let table = locking.await.unwrap();
    world.until_waiting("begin_task").await;
    kill(&world, "fetch").await;
    table.batch_execute("COMMIT").await.unwrap();
    assert_paid(&account, &run_id, 1).await;
}

#[stack_test(alone)]
async fn a_killed_scrape_pays_no_second_actor_run(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("killed");
    world.slow_scrape(&handle, 4000).await;
    let run_id = account.start(&handle, "light").await;
    let sql = "SELECT scrape_run_id FROM analyses WHERE run_id = $1 AND scrape_run_id IS NOT NULL";
    until("the Actor run", PATIENCE, || async { world.db.value::<String>(sql, &[&run_id]).await }).await;
    kill(&world, "fetch").await;
    assert_paid(&account, &run_id, 1).await;
    let starts = world.calls("apify", &handle).await.into_iter().filter(|call| call["op"] == "start").count();
    assert_eq!(starts, 1);
}

#[stack_test(alone)]
async fn a_killed_question_is_asked_again(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("killed");
    world.slow_model("openai", &handle, 2000).await;
    let run_id = account.start(&handle, "light").await;
    until("a question", PATIENCE, || async { world.calls("openai", &handle).await.into_iter().next() }).await;
    kill(&world, "analyze").await;
    assert_paid(&account, &run_id, 1).await;
    assert_eq!(world.calls("openai", &handle).await.len(), 2);
}

#[stack_test(alone)]
async fn a_killed_analysis_asks_only_what_is_open(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("killed");
    // Three of four questions stay without an answer.
    world.fault("openai", &handle, Some(3), json!({ "kind": "hang", "seconds": 60 })).await;
    let run_id = account.start(&handle, "xray").await;
    let sql = "SELECT ai_answers FROM analyses WHERE run_id = $1 AND ai_answers <> '{}'";
    let answers: Value = until("an answer", PATIENCE, || async { world.db.value(sql, &[&run_id]).await }).await;
    assert_eq!(account.progress(&run_id).await["progress"], json!(57));
    kill(&world, "analyze").await;
    assert_paid(&account, &run_id, 5).await;
    // The answered question was not asked again, and its answer is the one that counts.
    assert_eq!((world.calls("openai", &handle).await.len(), world.calls("anthropic", &handle).await.len()), (4 + 3, 0));
    let (call, answer) = answers.as_object().unwrap().iter().next().unwrap();
    let kept: Option<Value> = world.db.value("SELECT ai_answers -> $2 FROM analyses WHERE run_id = $1", &[&run_id, call]).await;
    assert_eq!(kept.as_ref(), Some(answer));
    // Step 9 began with that question.
    let result = account.progress(&run_id).await;
    let step = result["steps"].as_array().unwrap().iter().find(|step| step["name"] == "analyze_profile").unwrap();
    let began: jiff::Timestamp = step["started_at"].as_str().unwrap().parse().unwrap();
    let sql = "SELECT floor(extract(epoch FROM min(started_at)) * 1000)::int8 FROM ai_usage_logs WHERE run_id = $1 AND api_call_type = $2";
    assert_eq!(Some(began.as_millisecond()), world.db.value::<i64>(sql, &[&run_id, call]).await);
}

#[stack_test(alone)]
async fn a_killed_save_is_repeated(world: Arc<World>) {
    let account = world.account(9).await;
    let holder = holding(&world, "LOCK TABLE leads IN SHARE MODE").await;
    let run_id = account.start(&world.handle("killed"), "light").await;
    world.until_waiting("complete_analysis").await;
    kill(&world, "save").await;
    holder.batch_execute("COMMIT").await.unwrap();
    assert_paid(&account, &run_id, 1).await;
}

#[stack_test(alone)]
async fn a_killed_compensation_refunds_once(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("private");
    world.slow_scrape(&handle, 8000).await;
    let run_id = account.start(&handle, "light").await;
    until_status(&world, &run_id, "processing").await;
    // The refund waits for the balance; its function is killed there, twice.
    let holder = lock_balance(&world, &account).await;
    world.until_waiting("fail_run").await;
    kill(&world, "compensate").await;
    // The statement of the killed process may still wait at the server: the next one waits behind it, for the run's row.
    world.until_all_waiting(2, "fail_run").await;
    kill(&world, "compensate").await;
    holder.batch_execute("COMMIT").await.unwrap();
    let ended = account.ended(&run_id).await;
    account.assert_refunded(&ended, "PROFILE_PRIVATE", 1, 9).await;
    world.execution_ended(&run_id).await;
    account.assert_refund_recorded(&run_id, 1, 9).await;
}

/// Waits for the ends of the run and of its execution, and asserts that it was charged with a result or refunded without one.
async fn assert_settled(account: &Account, run_id: &str) {
    account.world.execution_ended(run_id).await;
    let ended = account.ended(run_id).await;
    match ended.status() {
        "completed" => assert_eq!(account.entries(run_id).await, [("analysis".to_owned(), -1)]),
        "failed" => account.assert_refund_recorded(run_id, 1, 9).await,
        status => panic!("{status}"),
    }
}

#[stack_test(alone)]
async fn a_database_that_restarts_while_scraping_costs_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("restart");
    world.slow_scrape(&handle, 3000).await;
    let run_id = account.start(&handle, "light").await;
    until("an Actor run", PATIENCE, || async { world.calls("apify", &handle).await.into_iter().next() }).await;
    world.stack.restart_postgres().await.unwrap();
    assert_settled(&account, &run_id).await;
}

#[stack_test(alone)]
async fn a_database_that_restarts_during_ai_costs_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("restart");
    world.slow_model("openai", &handle, 2000).await;
    let run_id = account.start(&handle, "light").await;
    until("a question", PATIENCE, || async { world.calls("openai", &handle).await.into_iter().next() }).await;
    world.stack.restart_postgres().await.unwrap();
    assert_settled(&account, &run_id).await;
}

#[stack_test(alone)]
async fn a_database_that_restarts_while_saving_costs_nothing(world: Arc<World>) {
    let account = world.account(9).await;
    let holder = holding(&world, "LOCK TABLE leads IN SHARE MODE").await;
    let run_id = account.start(&world.handle("restart"), "light").await;
    world.until_waiting("complete_analysis").await;
    world.stack.restart_postgres().await.unwrap();
    drop(holder);
    assert_settled(&account, &run_id).await;
}
