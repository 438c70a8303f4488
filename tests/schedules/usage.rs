//! The metrics outbox, and the nightly check of ledger and balances.

use std::sync::Arc;
use std::time::Duration;

use super::{CLEAN_UP, dry_run, number, run, sql};
use crate::harness::{Account, Value, World, json, stack_test, until};

const REPORT: &str = "report-usage";

/// Returns the account's observations of a data set, in the order of their publication.
async fn observations(account: &Account, dataset: &str) -> Vec<Value> {
    let lines = account.world.stack.log_lines(Some("report_usage")).await.unwrap();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["dataset"] == dataset && line["account_id"] == account.id.as_str()).collect()
}

#[stack_test(alone)]
async fn runs_and_credits_are_published_once(world: Arc<World>) {
    // Publishes the facts that other tests have left.
    run(&world, REPORT).await;
    let account = world.account(10).await;
    let done = account.run(&world.handle("published"), "deep").await;
    let missing = account.run(&world.handle("missing"), "light").await;
    assert_eq!((done.status(), missing.status()), ("completed", "failed"));
    let refused = format!("run_{}", uuid::Uuid::now_v7().simple());
    let seed = json!({
        "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
        "username": world.handle("private"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
    });
    world.db.rows("SELECT record_ended_run($1, $2, 'failed', 'PROFILE_PRIVATE', NULL, NULL)", &[&refused, &seed]).await;
    assert!(number(&dry_run(&world, REPORT).await, "waiting") >= 2);
    let summary = run(&world, REPORT).await;
    assert!(number(&summary, "runs") >= 2 && number(&summary, "entries") >= 4, "{summary}");
    until("the run's metrics", Duration::from_mins(1), || async {
        world.collect_reports().await;
        (observations(&account, "credit_usage").await.len() >= 4).then_some(())
    })
    .await;

    let ended = observations(&account, "analysis_runs").await;
    let completed = observations(&account, "analysis_completed").await;
    let of = |lines: &[Value], run_id: &str| lines.iter().find(|line| line["run_id"] == run_id).expect("the run's line").clone();
    let (line, cost) = (of(&ended, &done.run_id), of(&completed, &done.run_id));
    let (recorded, seconds): (i64, i64) = {
        let sql = "SELECT total_cost_micro_usd, extract(epoch FROM completed_at)::bigint FROM analyses WHERE run_id = $1";
        let row = world.db.rows(sql, &[&done.run_id]).await.remove(0);
        (row.get(0), row.get(1))
    };
    let sum: i64 = ["apify_cost", "openai_cost", "anthropic_cost"].iter().map(|name| cost[*name].as_i64().unwrap()).sum();
    assert_eq!((line["total_cost"].as_i64(), sum), (Some(recorded), recorded), "{cost}");
    // No price of a credit is invented: what a run earned depends on how its credits were granted.
    assert!(ended.iter().chain(&completed).all(|line| line.get("revenue").or(line.get("gross_profit")).is_none()), "{ended:?}");
    // Published with the time of the event and with dimensions of few values. A run that did not complete has no series of its tier.
    assert!((cost["_aws"]["Timestamp"].as_i64().unwrap() / 1000 - seconds).abs() <= 1, "{cost}");
    let dimensions = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
    assert_eq!(dimensions(&cost), json!([["environment", "analysis_type"]]));
    assert_eq!(dimensions(&line), json!([["environment", "status"]]));
    assert_eq!((of(&ended, &missing.run_id)["status"].as_str(), completed.len()), (Some("failed"), 1));
    // The average is the refund rate, which excludes runs that were never charged.
    let failures = observations(&account, "analysis_failures").await;
    assert_eq!([of(&failures, &done.run_id)["failed"].as_i64(), of(&failures, &missing.run_id)["failed"].as_i64()], [Some(0), Some(1)]);
    assert_eq!((ended.len(), failures.iter().filter(|line| line["run_id"] == refused).count()), (3, 0), "{failures:?}");

    let steps: Vec<i64> = ["scraping_duration", "ai_duration", "total_duration"].iter().map(|name| cost[*name].as_i64().unwrap()).collect();
    assert!(steps[0] > 0 && steps[1] > 0 && steps[2] >= steps[0].max(steps[1]), "{cost}");
    assert!(["scrape_profile", "analyze_profile"].contains(&line["bottleneck_step"].as_str().unwrap()), "{line}");
    // The run's result has the same values.
    let result = account.result(&done.run_id).await.data(200);
    assert_eq!(result["performance"]["bottleneck"]["step"], line["bottleneck_step"], "{result}");

    let moved = observations(&account, "credit_usage").await;
    let mut moved: Vec<(String, i64)> =
        moved.iter().map(|line| (line["transaction_type"].as_str().unwrap().to_owned(), line["credits"].as_i64().unwrap())).collect();
    moved.sort();
    let mut expected = Vec::new();
    for row in
        world.db.rows("SELECT transaction_type, amount::bigint FROM credit_ledger WHERE account_id = $1::text::uuid", &[&account.id]).await
    {
        expected.push((row.get::<_, String>(0), row.get::<_, i64>(1)));
    }
    expected.sort();
    assert_eq!(moved, expected);

    // Published once, however often the schedule runs.
    let before = (ended.len(), moved.len());
    let (one, two) = tokio::join!(run(&world, REPORT), run(&world, REPORT));
    assert_eq!([number(&one, "runs"), number(&one, "entries"), number(&two, "runs"), number(&two, "entries")], [0; 4]);
    assert_eq!((observations(&account, "analysis_runs").await.len(), observations(&account, "credit_usage").await.len()), before);
}

#[stack_test(alone)]
async fn facts_whose_response_was_lost_are_returned_again(world: Arc<World>) {
    let account = world.account(0).await;
    let client = world.db.connect().await;
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let take = async |taker: uuid::Uuid| {
        let row = client.query_one("SELECT take_metrics(100000, $1)", &[&taker]).await.unwrap();
        let facts: Value = row.get(0);
        let mine = facts["entries"].as_array().unwrap().iter().filter(|entry| entry["account_id"] == account.id.as_str()).count();
        (facts, mine)
    };
    // The transaction is rolled back, so that the schedule publishes the facts.
    client.batch_execute("BEGIN").await.unwrap();
    let (taken, mine) = take(one).await;
    assert!(mine >= 1, "the account's credits were changed: {taken}");
    assert_eq!(take(one).await.0, taken, "the same caller gets the same facts");
    assert_eq!(take(other).await.1, 0, "and no other caller");
    // Taken facts are removed once no caller can request them again.
    client.batch_execute("UPDATE metric_outbox SET taken_at = taken_at - interval '10 minutes' WHERE taken_by IS NOT NULL").await.unwrap();
    take(other).await;
    let kept: i64 = client.query_one("SELECT count(*) FROM metric_outbox WHERE taken_by = $1", &[&one]).await.unwrap().get(0);
    assert_eq!(kept, 0);
    client.batch_execute("ROLLBACK").await.unwrap();
}

#[stack_test(alone)]
async fn inconsistent_balances_are_reported(world: Arc<World>) {
    let account = world.account(7).await;
    let wrong = |amount: i32| {
        format!(
            "BEGIN; ALTER TABLE credit_balances DISABLE TRIGGER USER;
             UPDATE credit_balances SET current_balance = current_balance + {amount} WHERE account_id = '{}';
             ALTER TABLE credit_balances ENABLE TRIGGER USER; COMMIT",
            account.id
        )
    };
    let summary = run(&world, CLEAN_UP).await;
    assert_eq!(number(&summary, "money_mismatches"), 0);
    let accounts: i64 = world.db.value("SELECT count(*) FROM accounts", &[]).await.unwrap();
    assert_eq!(number(&summary, "accounts_reconciled"), u64::try_from(accounts).unwrap(), "all accounts, in batches");

    sql(&world, &wrong(1)).await;
    let summary = run(&world, CLEAN_UP).await;
    // Repaired before any other statement, so that no other test finds it.
    sql(&world, &wrong(-1)).await;
    assert_eq!(number(&summary, "money_mismatches"), 1, "{summary}");
    let alarmed = |lines: Vec<String>| {
        let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let named = lines.iter().any(|line| line["level"] == "ERROR" && line["subject"] == account.id.as_str());
        let counted = lines.iter().any(|line| line["schedule"] == "clean_up" && line["money_mismatches"] == 1);
        (named && counted).then_some(())
    };
    let lines = || async { alarmed(world.stack.log_lines(Some("clean_up")).await.unwrap()) };
    until("the fault's lines", Duration::from_secs(20), lines).await;
    // The error is reported to Sentry.
    assert_eq!(world.calls("sentry", &account.id).await.len(), 1);
    assert_eq!(number(&run(&world, CLEAN_UP).await, "money_mismatches"), 0);
}

/// Returns the faults after a change that bypasses every trigger, in a transaction that is rolled back.
async fn faults_after(world: &World, change: &str) -> Vec<String> {
    let client = world.db.connect().await;
    client.batch_execute(&format!("BEGIN; SET LOCAL session_replication_role = replica; {change}")).await.unwrap();
    let rows = client.query("SELECT fault FROM ledger_faults ORDER BY fault", &[]).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[stack_test(alone)]
async fn every_kind_of_fault_is_found(world: Arc<World>) {
    let account = world.account(5).await;
    let id = &account.id;
    let intent = account.buy(10).await;
    let refunded = account.run(&world.handle("missing"), "light").await.run_id;
    assert_eq!(faults_after(&world, "").await, Vec::<String>::new());
    let entry = |amount: i32, kind: &str, run: &str, key: &str, after: i32, number: i32| {
        format!(
            "INSERT INTO credit_ledger (account_id, amount, balance_after, entry_no, transaction_type, run_id, idempotency_key, created_by)
             SELECT account_id, {amount}, balance_after + {after}, entry_no + {number}, '{kind}', {run}, {key}, 'system'
             FROM credit_ledger WHERE account_id = '{id}' ORDER BY entry_no DESC LIMIT 1;
             UPDATE credit_balances SET current_balance = current_balance + {amount} WHERE account_id = '{id}';"
        )
    };
    let invoice =
        "INSERT INTO stripe_invoices (stripe_invoice_id, account_id, stripe_subscription_id, status, amount_due, amount_paid, currency,
                   version, invoiced_at) SELECT 'in_lost', id, 'sub_lost', 'paid', 100, 100, 'usd', '1', now() FROM accounts WHERE id = ";
    let cases = [
        // A payment without credits, credits without a payment, and a payment with other credits.
        (
            format!("INSERT INTO stripe_payments (source, account_id, credits, amount_cents) VALUES ('pi_lost', '{id}', 7, 700)"),
            vec!["payment is worth 7, in the ledger 0"],
        ),
        (entry(7, "purchase", "NULL", "'purchase:lost'", 7, 1), vec!["payment is worth 0, in the ledger 7"]),
        (format!("UPDATE stripe_payments SET credits = 11 WHERE source = '{intent}'"), vec!["payment is worth 11, in the ledger 10"]),
        // A paid invoice without credits, or with credits that are in no period.
        (format!("{invoice} '{id}'"), vec!["invoice is paid and gave nothing"]),
        (
            format!(
                "{invoice} '{id}'; INSERT INTO stripe_payments (source, account_id, credits, amount_cents) VALUES ('in_lost', '{id}', 9, 900)"
            ),
            vec!["subscription's invoices are worth 9, its periods 0, its changes in the ledger 0"],
        ),
        // Credits that can be spent beside a shortfall; a return that was not collected, or collected without being owed.
        (
            format!(
                "UPDATE stripe_payments SET shortfall = 10, refunds = '{{\"ch_1\": {{\"total\": 970}}}}' WHERE source = '{intent}';
                 UPDATE credit_balances SET open_shortfall = 10 WHERE account_id = '{id}'"
            ),
            vec!["balance of 15 with a shortfall of 10"],
        ),
        (
            format!("UPDATE stripe_payments SET refunds = '{{\"ch_1\": {{\"total\": 485}}}}' WHERE source = '{intent}'"),
            vec!["payment owes 5, of which 0 is taken and 0 open"],
        ),
        (
            format!("UPDATE credit_balances SET open_shortfall = 3 WHERE account_id = '{id}'"),
            vec!["balance knows a shortfall of 3, its payments one of 0"],
        ),
        // A dispute that the balance does not know, and a charge during one.
        (
            format!(
                "UPDATE stripe_payments SET disputes = '{{\"du_1\": {{\"cents\": 0, \"state\": \"open\"}}}}', disputed_since = now() WHERE source = '{intent}'"
            ),
            vec!["balance knows a shortfall of 0, its payments one of 0, and another dispute"],
        ),
        (
            format!(
                "UPDATE stripe_payments SET disputes = '{{\"du_1\": {{\"cents\": 0, \"state\": \"open\"}}}}', disputed_since = '2026-01-01' WHERE source = '{intent}';
                 UPDATE credit_balances SET disputed_since = '2026-01-01' WHERE account_id = '{id}'"
            ),
            vec!["charged while a payment is disputed"],
        ),
        // A second refund, as if the index that forbids it were missing, is reported.
        (
            format!("DROP INDEX one_refund_a_run; {}", entry(1, "refund", &format!("'{refunded}'"), "NULL", 1, 1)),
            vec!["run is failed with 1 charged and 2 refunded"],
        ),
        (entry(1, "admin_grant", "NULL", "'lost'", 1, 2), vec!["entries are not chained"]),
    ];
    for (change, expected) in cases {
        assert_eq!(faults_after(&world, &change).await, expected, "{change}");
    }
}
