//! One adapter from EventBridge Scheduler to a schedule: its input, the time that it has, retries, and the summary of what it did.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, sdk_config};
use oslira_db::{AdminDb, DbError};
use oslira_telemetry::{Metrics, Unit, caught};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Instrument;

/// With less time than this no pass is begun: the database may take 22 seconds for a statement, a pass has up to three, and the summary
/// must still be told.
const LEAST_TIME: Duration = Duration::from_secs(75);
/// How often a batch is tried again after the database was away or another transaction got in its way.
const RETRIES: u32 = 3;
/// The pause before the first retry; the next ones take longer.
const PAUSE: Duration = Duration::from_millis(200);

/// The database as schedules see it. Starts logging.
///
/// # Errors
/// Names the missing variable.
pub async fn admin_db() -> Result<AdminDb, MissingVariable> {
    oslira_telemetry::init();
    Ok(AdminDb::new(Secrets::from_env(&sdk_config())?.fetcher("database-admin", DbError::no_credential)))
}

/// What a schedule is invoked with. A misspelt `dry_run` must not run for real.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    dry_run: bool,
}

/// What a run of a schedule may do, and what it has done so far.
#[derive(Debug)]
pub struct Tally {
    dry_run: bool,
    deadline: Instant,
    more: bool,
    batches: u64,
    counts: Vec<(&'static str, u64)>,
}

impl Tally {
    fn new(dry_run: bool, deadline: Instant) -> Self {
        Self { dry_run, deadline, more: false, batches: 0, counts: Vec::new() }
    }

    /// Whether to count only and change nothing.
    pub const fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Adds to a number of the summary. Zero makes it appear.
    pub fn count(&mut self, name: &'static str, amount: u64) {
        match self.counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count = count.saturating_add(amount),
            None => self.counts.push((name, amount)),
        }
    }

    /// Says that something is left for the next run.
    pub const fn leave_rest(&mut self) {
        self.more = true;
    }

    /// Whether there is time for another batch; if not, the rest is left.
    pub fn has_time(&mut self) -> bool {
        let time = self.deadline.saturating_duration_since(Instant::now()) > LEAST_TIME;
        self.more |= !time;
        time
    }

    /// Runs a batch, again if the database was away for a moment.
    ///
    /// # Errors
    /// The batch's own, when trying again does not help.
    pub async fn batch<T, Fut: Future<Output = Result<T, DbError>>>(&mut self, mut batch: impl FnMut() -> Fut) -> Result<T, DbError> {
        let mut tries = 0;
        loop {
            match batch().await {
                Err(error) if error.is_retryable() && tries < RETRIES && self.has_time() => {
                    tries += 1;
                    tracing::warn!(%error, tries, "batch failed, trying again");
                    tokio::time::sleep(PAUSE * tries).await;
                }
                outcome => {
                    self.batches += 1;
                    return outcome;
                }
            }
        }
    }

    /// Runs batches of up to `size` rows, each answering how many it took, until one finds less. Counts the rows as `name`.
    ///
    /// # Errors
    /// As [`Tally::batch`].
    pub async fn batches<Fut>(&mut self, name: &'static str, size: u64, mut batch: impl FnMut() -> Fut) -> Result<(), DbError>
    where
        Fut: Future<Output = Result<u64, DbError>>,
    {
        self.count(name, 0);
        while self.has_time() {
            let taken = self.batch(&mut batch).await?;
            self.count(name, taken);
            if taken < size {
                break;
            }
        }
        Ok(())
    }

    /// Tells what was done, in the log and as metrics.
    fn close(self, schedule: &'static str, started: Instant, outcome: Result<(), Error>) -> Result<Summary, Error> {
        let Self { dry_run, more, batches, counts, .. } = self;
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A dry run has changed nothing: its numbers would say the opposite, and that the last run's trouble is over.
        if !dry_run {
            let metrics = Metrics::of("schedules")
                .dimension("schedule", schedule)
                .metric("schedule_duration", Unit::Milliseconds, duration_ms)
                .metric("schedule_failures", Unit::Count, u64::from(outcome.is_err()))
                .metric("schedule_unfinished", Unit::Count, u64::from(more));
            counts.iter().fold(metrics, |metrics, &(name, count)| metrics.metric(name, Unit::Count, count)).emit();
        }
        let counts: Map<String, Value> = counts.into_iter().map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
        let told = Value::Object(counts.clone()).to_string();
        match outcome {
            Ok(()) if more => tracing::warn!(dry_run, more, batches, duration_ms, counts = told, "schedule ended, something is left"),
            Ok(()) => tracing::info!(dry_run, more, batches, duration_ms, counts = told, "schedule ended"),
            Err(error) => {
                tracing::error!(dry_run, more, batches, duration_ms, counts = told, %error, "schedule failed");
                oslira_telemetry::count_error("SCHEDULE_FAILED", &[("schedule", schedule)]);
                return Err(error);
            }
        }
        Ok(Summary { schedule, dry_run, more, batches, duration_ms, counts })
    }
}

/// What a run did.
#[derive(Debug, Serialize)]
struct Summary {
    schedule: &'static str,
    dry_run: bool,
    /// Whether something is left for the next run.
    more: bool,
    batches: u64,
    duration_ms: u64,
    #[serde(flatten)]
    counts: Map<String, Value>,
}

/// Runs a schedule until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F>(schedule: &'static str, task: F) -> Result<(), Error>
where
    F: AsyncFn(&mut Tally) -> Result<(), DbError>,
{
    let task = &task;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Input>| {
        let span =
            tracing::info_span!("schedule", requestId = event.context.request_id, xray_trace_id = event.context.xray_trace_id, schedule);
        let work = async move {
            let started = Instant::now();
            let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
            let mut tally = Tally::new(event.payload.dry_run, started + left);
            // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
            let outcome = caught(Box::pin(task(&mut tally))).await;
            let outcome = outcome.map_err(Error::from).and_then(|outcome| outcome.map_err(Error::from));
            tally.close(schedule, started, outcome)
        };
        async move {
            let outcome = work.instrument(span).await;
            oslira_telemetry::report().await;
            outcome
        }
    }))
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    fn tally(left: Duration) -> Tally {
        Tally::new(false, Instant::now() + left)
    }

    #[tokio::test]
    async fn batches_go_on_until_one_is_not_full() {
        let rows = Cell::new(1200_u64);
        let mut tally = tally(Duration::from_mins(5));
        let batch = || async {
            let taken = rows.get().min(500);
            rows.set(rows.get() - taken);
            Ok(taken)
        };
        tally.batches("leads", 500, batch).await.unwrap();
        assert_eq!((rows.get(), tally.batches, tally.more), (0, 3, false));
        let summary = tally.close("clean_up", Instant::now(), Ok(())).unwrap();
        let mut summary = serde_json::to_value(summary).unwrap();
        summary["duration_ms"] = json!(0);
        assert_eq!(
            summary,
            json!({ "schedule": "clean_up", "dry_run": false, "more": false, "batches": 3, "duration_ms": 0, "leads": 1200 })
        );
    }

    #[tokio::test]
    async fn when_time_is_short_the_rest_is_left_and_said_to_be() {
        let mut tally = tally(LEAST_TIME + Duration::from_millis(50));
        let batch = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(500)
        };
        tally.batches("leads", 500, batch).await.unwrap();
        assert!(tally.more);
        assert!((1..=5).contains(&tally.batches), "{}", tally.batches);
        tally.batches("accounts", 500, batch).await.unwrap();
        assert_eq!(tally.counts.last(), Some(&("accounts", 0)));
    }

    #[tokio::test]
    async fn a_batch_is_tried_again_only_when_that_may_help() {
        let tries = Cell::new(0);
        let mut tally = tally(Duration::from_mins(5));
        let conflict = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(DbError::Conflict("deadlock".to_owned())) } else { Ok(7) }
        };
        assert_eq!(tally.batch(conflict).await.unwrap(), 7);
        assert_eq!(tries.get(), 3);
        let rule = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(DbError::Rule { code: "23503".to_owned(), message: "m".to_owned() })
        };
        let outcome = tally.batch(rule).await;
        assert_eq!(tries.get(), 4);
        assert!(tally.close("clean_up", Instant::now(), outcome.map_err(Error::from)).is_err());
    }

    #[test]
    fn a_misspelt_dry_run_is_refused() {
        assert!(serde_json::from_value::<Input>(json!({ "dry_run": true })).unwrap().dry_run);
        assert!(!serde_json::from_value::<Input>(json!({})).unwrap().dry_run);
        assert!(serde_json::from_value::<Input>(json!({ "dryRun": true })).is_err());
    }
}
