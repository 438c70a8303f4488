//! `end_stuck_runs`, every hour.

use futures::future::join_all;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, sdk_config};
use oslira_db::{AdminDb, DbError};
use oslira_domain::{RunId, RunStatus};

use crate::schedule::Tally;

/// How many runs are looked up, and ended, at a time. Ten stops that all wait for their time-outs leave time for the summary.
const BATCH: u32 = 10;

/// Who ends runs.
#[derive(Clone)]
pub struct Ender {
    db: AdminDb,
    executions: Executions,
    progress: ProgressTable,
}

impl Ender {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config();
        Ok(Self {
            db: AdminDb::new(Secrets::from_env(&config)?.fetcher("database-admin", DbError::no_credential)),
            executions: Executions::from_env(&config)?,
            progress: ProgressTable::from_env(&config)?,
        })
    }

    /// Fails a run, refunds it and stops its execution. Answers what was refunded, or `None` for a run that has ended or moved since it was
    /// looked up, which is left alone: one transaction decides, under the lock that a completion takes too.
    ///
    /// An execution that cannot be stopped right now spends nothing more: each of its tasks asks the database first, and ends.
    async fn end(&self, run_id: &RunId) -> Result<Option<u64>, DbError> {
        let Some(failure) = self.db.end_stuck_run(run_id).await? else {
            tracing::info!(%run_id, "the run has moved or ended meanwhile");
            return Ok(None);
        };
        let shown = self.progress.end(run_id, RunStatus::Failed, failure.error_code, &[], Timestamp::now());
        let (stopped, shown) = tokio::join!(self.executions.stop(run_id), shown);
        for (what, outcome) in [("execution not stopped", stopped), ("progress not written", shown)] {
            if let Err(error) = outcome {
                tracing::warn!(%run_id, %error, what);
            }
        }
        tracing::info!(%run_id, credits_refunded = failure.credits_refunded, "stuck run ended");
        Ok(Some(u64::try_from(failure.credits_refunded).unwrap_or_default()))
    }
}

/// Ends the runs whose last step was over five minutes ago, or over an hour for runs of a bulk request that are still queued: their
/// executions are stopped, and they are failed as `TIMED_OUT` with their refund in one transaction.
///
/// # Errors
/// When the database does not answer, even after some time.
pub async fn end_stuck_runs(tally: &mut Tally, ender: &Ender) -> Result<(), DbError> {
    for name in ["stuck", "ended", "credits_refunded", "left_alone"] {
        tally.count(name, 0);
    }
    let mut after = String::new();
    while tally.has_time() {
        let stuck = tally.batch(|| ender.db.stuck_runs(&after, BATCH)).await?;
        let Some(last) = stuck.last() else { break };
        after = last.to_string();
        tally.count("stuck", stuck.len() as u64);
        if tally.dry_run() {
            continue;
        }
        for end in join_all(stuck.iter().map(|run_id| ender.end(run_id))).await {
            match end {
                Ok(Some(credits)) => {
                    tally.count("ended", 1);
                    tally.count("credits_refunded", credits);
                }
                Ok(None) => tally.count("left_alone", 1),
                // One that cannot be ended now must not keep the others waiting: the next run finds it again.
                Err(error) => {
                    tracing::error!(%error, "run not ended");
                    tally.leave_rest();
                }
            }
        }
    }
    Ok(())
}
