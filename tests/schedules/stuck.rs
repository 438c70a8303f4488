//! The hourly schedule that ends stuck runs.

use std::sync::Arc;
use std::time::Duration;

use super::{END_STUCK, dry_run, kill, number, run, sql, start};
use crate::harness::{Account, Value, World, json, stack_test, until};

/// Writes a run as the API and its admission do: recorded, with progress, and charged if it has a price.
pub(super) async fn admitted(account: &Account, handle: &str) -> String {
    let world = &account.world;
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let owner: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    let run = json!({ "run_id": run_id, "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": owner,
                      "username": handle, "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond() });
    world.put_progress(&run).await;
    let admission: Value = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &run]).await.unwrap();
    assert_eq!(admission["outcome"], "admitted");
    run_id
}

/// Writes a run of a bulk request that waits in its queue and is not charged.
async fn queued(account: &Account, handle: &str) -> String {
    let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
    let text = format!(
        "INSERT INTO analyses (run_id, account_id, business_profile_id, username, analysis_type, status, batch_id)
         VALUES ('{run_id}', '{}', '{}', '{handle}', 'light', 'pending', 'batch_of_a_test')",
        account.id, account.business_profile_id
    );
    sql(&account.world, &text).await;
    run_id
}

pub(super) async fn rested(world: &World, run_id: &str, time: &str) {
    sql(world, &format!("UPDATE analyses SET last_step_at = clock_timestamp() - interval '{time}' WHERE run_id = '{run_id}'")).await;
}

async fn state(world: &World, run_id: &str) -> (String, Option<String>) {
    let rows = world.db.rows("SELECT status, error_code FROM analyses WHERE run_id = $1", &[&run_id]).await;
    (rows[0].get(0), rows[0].get(1))
}

fn timed_out() -> (String, Option<String>) {
    ("failed".to_owned(), Some("TIMED_OUT".to_owned()))
}

#[stack_test(alone)]
async fn runs_without_progress_are_failed_and_refunded(world: Arc<World>) {
    run(&world, END_STUCK).await;
    let account = world.account(9).await;
    let stuck = admitted(&account, "stuck").await;
    let stuck_in_batch = admitted(&account, "stuck.in.batch").await;
    sql(&world, &format!("UPDATE analyses SET batch_id = 'b' WHERE run_id = '{stuck_in_batch}'")).await;
    let moving = admitted(&account, "moving").await;
    let (long_queued, lately_queued) = (queued(&account, "long.queued").await, queued(&account, "queued").await);
    let done = account.run(&world.handle("done"), "light").await.run_id;
    for (run_id, time) in [
        (&stuck, "16 minutes"),
        (&stuck_in_batch, "16 minutes"),
        (&moving, "14 minutes"),
        (&long_queued, "61 minutes"),
        (&lately_queued, "10 minutes"),
    ] {
        rested(&world, run_id, time).await;
    }
    assert_eq!(account.balance().await, 5);
    let summary = dry_run(&world, END_STUCK).await;
    assert_eq!((number(&summary, "stuck"), number(&summary, "ended")), (3, 0));
    assert_eq!((account.balance().await, state(&world, &stuck).await.0.as_str()), (5, "processing"));
    let summary = run(&world, END_STUCK).await;
    assert_eq!((number(&summary, "stuck"), number(&summary, "ended"), number(&summary, "credits_refunded")), (3, 3, 2), "{summary}");
    for run_id in [&stuck, &stuck_in_batch, &long_queued] {
        assert_eq!(state(&world, run_id).await, timed_out());
    }
    for run_id in [&stuck, &stuck_in_batch] {
        account.assert_refund_recorded(run_id, 1, 7).await;
    }
    assert_eq!(account.entries(&long_queued).await, []);
    for (run_id, status) in [(&moving, "processing"), (&lately_queued, "pending"), (&done, "completed")] {
        assert_eq!(state(&world, run_id).await.0, status);
    }
    let progress = account.progress(&stuck).await;
    assert_eq!((&progress["status"], &progress["error"]["code"]), (&json!("failed"), &json!("TIMED_OUT")), "{progress}");
    let summary = run(&world, END_STUCK).await;
    assert_eq!((number(&summary, "stuck"), number(&summary, "ended")), (0, 0));
    for run_id in [&moving, &lately_queued] {
        sql(&world, &format!("SELECT fail_run('{run_id}', 'ABORTED')")).await;
    }
}

#[stack_test(alone)]
async fn a_stuck_execution_is_stopped(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("stuck");
    world.slow_scrape(&handle, 30_000).await;
    let run_id = account.start(&handle, "deep").await;
    // Once it is recorded, the run does not move until the first poll ends, two seconds later.
    let recorded = "SELECT 1 FROM analyses WHERE run_id = $1 AND scrape_run_id IS NOT NULL";
    until("a recorded Actor run", Duration::from_mins(1), || async { world.db.rows(recorded, &[&run_id]).await.into_iter().next() }).await;
    rested(&world, &run_id, "16 minutes").await;
    let summary = run(&world, END_STUCK).await;
    assert_eq!(number(&summary, "stuck"), 1, "{summary}");
    assert_eq!(world.execution_ended(&run_id).await.as_str(), "ABORTED");
    let ended = account.ended(&run_id).await;
    // The execution's end is also compensated. It neither changes the reason nor refunds twice.
    assert_eq!(ended.error_code(), "TIMED_OUT", "{}", ended.progress);
    account.assert_refund_recorded(&run_id, 3, 9).await;
}

/// Opens a connection in whose uncommitted transaction the run has completed.
async fn completing(world: &World, run_id: &str) -> tokio_postgres::Client {
    let report = json!({ "overall_score": 50, "niche_fit_score": 50, "engagement_score": 50, "confidence_level": 0.5, "summary_text": "fine", "fields": {} });
    let client = world.db.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    let text = "SELECT complete_analysis($1, '{\"display_name\":\"x\",\"is_verified\":false,\"is_private\":false,\"is_business_account\":false}', $2, '{}', false, '[]')";
    client.query(text, &[&run_id, &report]).await.unwrap();
    client
}

#[stack_test(alone)]
async fn a_run_that_completes_meanwhile_stays_completed(world: Arc<World>) {
    run(&world, END_STUCK).await;
    let account = world.account(9).await;
    let completed = admitted(&account, "completing").await;
    let stuck = admitted(&account, "stuck").await;
    for run_id in [&completed, &stuck] {
        rested(&world, run_id, "16 minutes").await;
    }
    let completion = completing(&world, &completed).await;
    let ending = start(&world, END_STUCK);
    world.until_waiting("end_stuck_run").await;
    completion.batch_execute("COMMIT").await.unwrap();
    let summary = ending.await.unwrap().unwrap();
    assert_eq!((number(&summary, "stuck"), number(&summary, "ended"), number(&summary, "left_alone")), (2, 1, 1), "{summary}");
    assert_eq!(state(&world, &completed).await.0, "completed");
    assert_eq!(account.entries(&completed).await, [("analysis".to_owned(), -1)]);
    assert_eq!(state(&world, &stuck).await, timed_out());
    // A completion after the schedule finds the run failed and refunded.
    let late = admitted(&account, "late").await;
    rested(&world, &late, "16 minutes").await;
    run(&world, END_STUCK).await;
    completing(&world, &late).await.batch_execute("COMMIT").await.unwrap();
    assert_eq!(state(&world, &late).await, timed_out());
    assert_eq!(account.balance().await, 8);
}

#[stack_test(alone)]
async fn two_concurrent_schedules_refund_once(world: Arc<World>) {
    run(&world, END_STUCK).await;
    let account = world.account(9).await;
    let mut runs = Vec::new();
    for n in 0..8 {
        let run_id = admitted(&account, &format!("stuck_{n}")).await;
        rested(&world, &run_id, "16 minutes").await;
        runs.push(run_id);
    }
    let (one, other) = tokio::join!(run(&world, END_STUCK), run(&world, END_STUCK));
    assert_eq!(number(&one, "ended") + number(&other, "ended"), 8, "{one} {other}");
    assert_eq!(number(&one, "credits_refunded") + number(&other, "credits_refunded"), 8);
    for run_id in &runs {
        account.assert_refund_recorded(run_id, 1, 9).await;
    }
}

#[stack_test(alone)]
async fn a_killed_schedule_refunds_once(world: Arc<World>) {
    run(&world, END_STUCK).await;
    let account = world.account(9).await;
    let runs = [admitted(&account, "first").await, admitted(&account, "second").await];
    for run_id in &runs {
        rested(&world, run_id, "16 minutes").await;
    }
    let holder = world.db.connect().await;
    holder.batch_execute(&format!("BEGIN; SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE", account.id)).await.unwrap();
    let ending = start(&world, END_STUCK);
    world.until_waiting("end_stuck_run").await;
    kill(&world, "end_stuck_runs").await;
    assert!(ending.await.unwrap().is_err());
    let next = start(&world, END_STUCK);
    world.until_waiting("end_stuck_run").await;
    holder.batch_execute("COMMIT").await.unwrap();
    next.await.unwrap().unwrap();
    for run_id in &runs {
        assert_eq!(state(&world, run_id).await, timed_out());
        account.assert_refund_recorded(run_id, 1, 9).await;
    }
}
