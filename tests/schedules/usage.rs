//! What is told as metrics, and the nightly comparison of the books.

use std::sync::Arc;
use std::time::Duration;

use super::{CLEAN_UP, dry_run, number, run, sql};
use crate::harness::{Account, Value, World, cases, json, until};

cases!(shared: ; alone: runs_and_credits_are_told_once, books_that_are_not_true_are_told);

const REPORT: &str = "report-usage";

/// The observations of a data set that are the account's, in the order in which they were told.
async fn told(account: &Account, dataset: &str) -> Vec<Value> {
    let lines = account.world.stack.log_lines(Some("report_usage")).await.unwrap();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["dataset"] == dataset && line["account_id"] == account.id.as_str()).collect()
}

async fn runs_and_credits_are_told_once(world: Arc<World>) {
    // What other tests have left to be told.
    run(&world, REPORT).await;
    let account = world.account(10).await;
    let done = account.run(&world.handle("told"), "deep").await;
    let missing = account.run(&world.handle("missing"), "light").await;
    assert_eq!((done.status(), missing.status()), ("completed", "failed"));
    assert!(number(&dry_run(&world, REPORT).await, "waiting") >= 2);
    let summary = run(&world, REPORT).await;
    assert!(number(&summary, "runs") >= 2 && number(&summary, "entries") >= 4, "{summary}");
    until("the run's metrics", Duration::from_mins(1), || async {
        world.collect_reports().await;
        (told(&account, "credit_usage").await.len() >= 4).then_some(())
    })
    .await;

    let costs = told(&account, "analysis_costs").await;
    let of = |lines: &[Value], run_id: &str| lines.iter().find(|line| line["run_id"] == run_id).expect("the run's line").clone();
    let cost = of(&costs, &done.run_id);
    let (booked, seconds): (i64, i64) = {
        let sql = "SELECT total_cost_micro_usd, extract(epoch FROM completed_at)::bigint FROM analyses WHERE run_id = $1";
        let row = world.db.rows(sql, &[&done.run_id]).await.remove(0);
        (row.get(0), row.get(1))
    };
    let (revenue, profit) = (3 * 970_000, 3 * 970_000 - booked);
    assert_eq!(json!([cost["total_cost"], cost["revenue"], cost["gross_profit"]]), json!([booked, revenue, profit]), "{cost}");
    assert_eq!(cost["total_cost"].as_i64(), Some(cost["apify_cost"].as_i64().unwrap() + cost["total_ai_cost"].as_i64().unwrap()));
    // Told with the time at which it happened, under dimensions that have few values.
    assert!((cost["_aws"]["Timestamp"].as_i64().unwrap() / 1000 - seconds).abs() <= 1, "{cost}");
    let directive = &cost["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(
        (&directive["Namespace"], &directive["Dimensions"]),
        (&json!("Oslira"), &json!([["environment", "analysis_type", "status"]]))
    );
    assert_eq!(of(&costs, &missing.run_id)["revenue"], 0);

    let performance = of(&told(&account, "analysis_performance").await, &done.run_id);
    let steps: Vec<i64> =
        ["scraping_duration", "ai_duration", "total_duration"].iter().map(|name| performance[*name].as_i64().unwrap()).collect();
    assert!(steps[0] > 0 && steps[1] > 0 && steps[2] >= steps[0].max(steps[1]), "{performance}");
    assert!(["scrape_profile", "analyze_profile"].contains(&performance["bottleneck_step"].as_str().unwrap()), "{performance}");
    // The same in the run's result, for its user.
    let result = account.result(&done.run_id).await.data(200);
    assert_eq!(result["performance"]["bottleneck"]["step"], performance["bottleneck_step"], "{result}");

    let moved = told(&account, "credit_usage").await;
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

    // Once, however often the clock ticks.
    let before = (costs.len(), moved.len());
    let (one, two) = tokio::join!(run(&world, REPORT), run(&world, REPORT));
    assert_eq!([number(&one, "runs"), number(&one, "entries"), number(&two, "runs"), number(&two, "entries")], [0; 4]);
    assert_eq!((told(&account, "analysis_costs").await.len(), told(&account, "credit_usage").await.len()), before);
}

async fn books_that_are_not_true_are_told(world: Arc<World>) {
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
    assert_eq!(number(&summary, "accounts_reconciled"), u64::try_from(accounts).unwrap(), "all of them, in batches");

    sql(&world, &wrong(1)).await;
    let summary = run(&world, CLEAN_UP).await;
    // Mended before anything else is asked, so that no other test finds it.
    sql(&world, &wrong(-1)).await;
    assert_eq!(number(&summary, "money_mismatches"), 1, "{summary}");
    let alarmed = |lines: Vec<String>| {
        let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let named = lines.iter().any(|line| line["level"] == "ERROR" && line["subject"] == account.id.as_str());
        let counted = lines.iter().any(|line| line["schedule"] == "clean_up" && line["money_mismatches"] == 1);
        (named && counted).then_some(())
    };
    let tells = || async { alarmed(world.stack.log_lines(Some("clean_up")).await.unwrap()) };
    until("the fault's lines", Duration::from_secs(20), tells).await;
    // And somebody is told.
    assert_eq!(world.calls("sentry", &account.id).await.len(), 1);
    assert_eq!(number(&run(&world, CLEAN_UP).await, "money_mismatches"), 0);
}
