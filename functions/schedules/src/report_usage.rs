//! `report_usage`, every minute.

use oslira_db::usage::{EndedRun, LedgerEntry};
use oslira_db::{AdminDb, DbError};
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
        for run in &metrics.runs {
            ended(run).emit();
            for metrics in [completed(run), failure(run)].into_iter().flatten() {
                metrics.emit();
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

/// Returns that a run ended, with everything about it as properties: they can be searched and summed up in the logs, where a metric for each
/// tier and status would cost money every month.
fn ended(run: &EndedRun) -> Metrics {
    let performance = Performance::of(&run.steps, run.duration_ms);
    let metrics = Metrics::of("analysis_runs")
        .dimension("status", run.status.as_str())
        .metric("runs", Unit::Count, 1)
        .property("analysis_type", run.analysis_type.as_str())
        .property("error_code", run.error_code.map(FailureCode::as_str))
        .property("run_id", run.run_id.as_str())
        .property("account_id", run.account_id.to_string())
        .property("business_profile_id", run.business_profile_id.map(|id| id.to_string()))
        .property("credits_charged", run.credits_kept)
        .property("cache_hit", run.cache_hit)
        .property("total_cost", run.total_micro_usd)
        .property("total_ai_cost", run.openai_micro_usd + run.anthropic_micro_usd)
        .property("db_duration", rounded(performance.db_duration_ms))
        .at(run.at_ms);
    match performance.bottleneck {
        Some(longest) => metrics
            .property("bottleneck_step", longest.step.as_str())
            .property("bottleneck_duration", rounded(longest.duration_ms))
            .property("bottleneck_percentage", longest.percentage),
        None => metrics,
    }
}

/// Returns how a completed run's time was spent, in milliseconds, and what its vendors cost, in micro-USD. Sums over vendors and tiers are metric
/// math. What a run earned is not among them: credits are paid for at many prices, and partly granted for nothing.
fn completed(run: &EndedRun) -> Option<Metrics> {
    if run.status != RunStatus::Completed {
        return None;
    }
    let performance = Performance::of(&run.steps, run.duration_ms);
    let metrics = Metrics::of("analysis_completed")
        .dimension("analysis_type", run.analysis_type.as_str())
        .metric("total_duration", Unit::Milliseconds, performance.total_duration_ms)
        .metric("scraping_duration", Unit::Milliseconds, rounded(performance.scraping_duration_ms))
        .metric("ai_duration", Unit::Milliseconds, rounded(performance.ai_duration_ms))
        .metric("apify_cost", Unit::None, run.apify_micro_usd)
        .metric("openai_cost", Unit::None, run.openai_micro_usd)
        .metric("anthropic_cost", Unit::None, run.anthropic_micro_usd)
        .property("run_id", run.run_id.as_str())
        .property("account_id", run.account_id.to_string())
        .at(run.at_ms);
    Some(metrics)
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds of a run")]
fn rounded(ms: f64) -> i64 {
    ms.round() as i64
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
        .metric("credits", Unit::Count, entry.amount)
        .property("credits_balance_after", entry.balance_after)
        .property("analysis_type", entry.analysis_type.map(Tier::as_str))
        .property("run_id", entry.run_id.as_ref().map(RunId::as_str))
        .property("account_id", entry.account_id.to_string())
        .at(entry.at_ms)
}
