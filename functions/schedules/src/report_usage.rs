//! `report_usage`, every minute.

use oslira_db::usage::{EndedRun, LedgerEntry};
use oslira_db::{AdminDb, DbError};
use oslira_domain::pricing::CENTS_A_CREDIT;
use oslira_domain::{FailureCode, Performance, RunId, RunStatus, Tier};
use oslira_lambda::schedule::ScheduledRun;
use oslira_telemetry::{Metrics, Unit};
use uuid::Uuid;

/// How many metrics a transaction takes.
const BATCH: u32 = 500;

/// Publishes metrics of the runs that ended and the credits that moved since the last run of this schedule, each with the time when it
/// happened. The database writes both to its outbox in the transaction in which they happen, so each is published once. Metrics that were
/// taken by a process that died before it published them are missing from the graphs, and from nothing else.
///
/// # Errors
/// When the database is unavailable, even after retries.
pub async fn report_usage(run: &mut ScheduledRun, db: &AdminDb) -> Result<(), DbError> {
    for name in ["runs", "entries"] {
        run.count(name, 0);
    }
    if run.dry_run() {
        let waiting = run.batch(|| db.count_metrics()).await?;
        run.count("waiting", waiting);
        return Ok(());
    }
    while run.has_time() {
        let taker = Uuid::new_v4();
        let metrics = run.batch(|| db.take_metrics(BATCH, taker)).await?;
        for ended in &metrics.runs {
            costs(ended).emit();
            performance(ended).emit();
            if let Some(failure) = failure(ended) {
                failure.emit();
            }
        }
        for entry in &metrics.entries {
            usage(entry).emit();
        }
        run.count("runs", metrics.runs.len() as u64);
        run.count("entries", metrics.entries.len() as u64);
        if metrics.taken < u64::from(BATCH) {
            break;
        }
    }
    Ok(())
}

/// Returns what a run cost and what it earned, in micro-USD.
fn costs(run: &EndedRun) -> Metrics {
    // At the price of a single credit, in micro-USD: what was paid for it depends on the pack or plan.
    let revenue = i64::from(run.credits_kept) * CENTS_A_CREDIT * 10_000;
    let profit = revenue - run.total_micro_usd;
    #[expect(clippy::cast_precision_loss, reason = "some dollars in micro-USD fit")]
    let margin = (revenue > 0).then(|| (profit as f64 / revenue as f64 * 10_000.0).round() / 100.0);
    Metrics::of("analysis_costs")
        .dimension("analysis_type", run.analysis_type.as_str())
        .dimension("status", run.status.as_str())
        .metric("total_cost", Unit::None, run.total_micro_usd)
        .metric("apify_cost", Unit::None, run.apify_micro_usd)
        .metric("openai_cost", Unit::None, run.openai_micro_usd)
        .metric("anthropic_cost", Unit::None, run.anthropic_micro_usd)
        .metric("total_ai_cost", Unit::None, run.openai_micro_usd + run.anthropic_micro_usd)
        .metric("revenue", Unit::None, revenue)
        .metric("gross_profit", Unit::None, profit)
        .metric("credits_charged", Unit::Count, run.credits_kept)
        .metric("cache_hits", Unit::Count, i32::from(run.cache_hit))
        .property("margin_percentage", margin)
        .property("run_id", run.run_id.as_str())
        .property("account_id", run.account_id.to_string())
        .property("business_profile_id", run.business_profile_id.map(|id| id.to_string()))
        .at(run.at_ms)
}

/// Returns how a run's time was spent.
fn performance(run: &EndedRun) -> Metrics {
    let performance = Performance::of(&run.steps, run.duration_ms);
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a run")]
    let rounded = |ms: f64| ms.round() as i64;
    let metrics = Metrics::of("analysis_performance")
        .dimension("analysis_type", run.analysis_type.as_str())
        .dimension("status", run.status.as_str())
        .metric("runs", Unit::Count, 1)
        .metric("total_duration", Unit::Milliseconds, performance.total_duration_ms)
        .metric("scraping_duration", Unit::Milliseconds, rounded(performance.scraping_duration_ms))
        .metric("ai_duration", Unit::Milliseconds, rounded(performance.ai_duration_ms))
        .metric("db_duration", Unit::Milliseconds, rounded(performance.db_duration_ms))
        .property("error_code", run.error_code.map(FailureCode::as_str))
        .property("run_id", run.run_id.as_str())
        .property("account_id", run.account_id.to_string())
        .at(run.at_ms);
    match performance.bottleneck {
        Some(longest) => metrics
            .metric("bottleneck_duration", Unit::Milliseconds, rounded(longest.duration_ms))
            .property("bottleneck_step", longest.step.as_str())
            .property("bottleneck_percentage", longest.percentage),
        None => metrics,
    }
}

/// Whether a run that was charged failed, so that its credits went back: on average the refund rate. One that was never charged (refused, or
/// a private profile in a bulk request) is no refund.
fn failure(run: &EndedRun) -> Option<Metrics> {
    if run.credits_charged == 0 {
        return None;
    }
    let metrics = Metrics::of("analysis_failures").metric("failed", Unit::Count, i32::from(run.status == RunStatus::Failed));
    Some(metrics.property("run_id", run.run_id.as_str()).property("account_id", run.account_id.to_string()).at(run.at_ms))
}

/// Credits that moved.
fn usage(entry: &LedgerEntry) -> Metrics {
    Metrics::of("credit_usage")
        .dimension("transaction_type", &*entry.transaction_type)
        .metric("transactions", Unit::Count, 1)
        .metric("credits", Unit::Count, entry.amount)
        .property("credits_balance_after", entry.balance_after)
        .property("analysis_type", entry.analysis_type.map(Tier::as_str))
        .property("run_id", entry.run_id.as_ref().map(RunId::as_str))
        .property("account_id", entry.account_id.to_string())
        .at(entry.at_ms)
}
