//! `end_stuck_runs`, every hour.

use futures::future::join_all;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::progress::ProgressTable;
use oslira_db::{AdminDb, DbError};
use oslira_domain::{RunId, RunStatus};
use oslira_lambda::Init;
use oslira_lambda::schedule::ScheduledRun;
use serde::Deserialize;

/// How many runs are looked up, and ended, at a time. Ten stops that all time out leave time for the summary.
const BATCH: u32 = 10;

/// What the schedule is configured with.
#[derive(Debug, Deserialize)]
pub struct StuckRunsConfig {
    /// The table of running analyses.
    pub progress_table: String,
    /// The analysis state machine.
    pub state_machine_arn: String,
}

/// The dependencies of the schedule.
pub struct StuckRunsEnder {
    db: AdminDb,
    executions: Executions,
    progress: ProgressTable,
}

impl StuckRunsEnder {
    /// Returns the dependencies that the configuration names.
    pub fn new(init: Init<StuckRunsConfig>) -> Self {
        Self {
            db: init.admin_db(),
            executions: Executions::new(&init.aws, init.config.state_machine_arn),
            progress: ProgressTable::new(&init.aws, init.config.progress_table),
        }
    }

    /// Fails a run, refunds it and stops its execution. Returns the refunded credits, or `None` for a run that has ended or advanced since it
    /// was looked up, which stays as it is: one transaction decides, under the lock that a completion takes too.
    ///
    /// An execution that cannot be stopped right now spends nothing more: each of its tasks queries the database first, and ends.
    async fn end(&self, run_id: &RunId) -> Result<Option<u64>, DbError> {
        let Some(failure) = self.db.end_stuck_run(run_id).await? else {
            tracing::info!(%run_id, "the run has advanced or ended meanwhile");
            return Ok(None);
        };
        let progress = self.progress.end(run_id, RunStatus::Failed, failure.error_code, &[], Timestamp::now());
        let (stopped, written) = tokio::join!(self.executions.stop(run_id), progress);
        if let Err(error) = stopped {
            tracing::warn!(%run_id, %error, "execution not stopped");
        }
        if let Err(error) = written {
            tracing::warn!(%run_id, %error, "progress not written");
        }
        tracing::info!(%run_id, credits_refunded = failure.credits_refunded, "stuck run ended");
        Ok(Some(u64::try_from(failure.credits_refunded).unwrap_or_default()))
    }
}

/// Ends the runs whose last step was over a quarter of an hour ago, or over an hour for runs of a bulk request that are still queued: their
/// executions are stopped, and they are failed as `TIMED_OUT` with their refund in one transaction.
///
/// # Errors
/// When the database is not available, even after some time.
pub async fn end_stuck_runs(run: &mut ScheduledRun, ender: &StuckRunsEnder) -> Result<(), DbError> {
    for name in ["stuck", "ended", "credits_refunded", "left_alone"] {
        run.count(name, 0);
    }
    let mut after = String::new();
    while run.has_time() {
        let stuck = run.batch(|| ender.db.stuck_runs(&after, BATCH)).await?;
        let Some(last) = stuck.last() else { break };
        after = last.to_string();
        run.count("stuck", stuck.len() as u64);
        if run.dry_run() {
            continue;
        }
        for end in join_all(stuck.iter().map(|run_id| ender.end(run_id))).await {
            match end {
                Ok(Some(credits)) => {
                    run.count("ended", 1);
                    if credits > 0 {
                        run.watch("credits_refunded", credits);
                    }
                }
                Ok(None) => run.count("left_alone", 1),
                // A run that cannot be ended now does not stop the others: the next run of the schedule finds it again.
                Err(error) => {
                    tracing::error!(%error, "run not ended");
                    run.set_unfinished();
                }
            }
        }
    }
    Ok(())
}
