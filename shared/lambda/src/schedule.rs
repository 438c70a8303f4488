//! Schedules of EventBridge Scheduler: work in batches, within the time that is left, with a summary of what was done.

use std::time::{Duration, Instant};

use lambda_runtime::{LambdaEvent, service_fn};
use oslira_db::DbError;
use oslira_telemetry::{Metrics, Unit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::Empty;

use crate::direct::DirectFailure;
use crate::invocation::Invocation;
use crate::{Error, invocation_span};

/// With less time than this no batch is begun: a statement may take 22 seconds, a pass of a schedule has up to three, and the summary must
/// still be published.
const MIN_TIME: Duration = Duration::from_secs(75);
/// How often a batch is retried after the database was unavailable or a transaction conflicted with another.
const RETRIES: u32 = 3;
/// The pause before the first retry; the next ones take longer.
const PAUSE: Duration = Duration::from_millis(200);

/// What a schedule is invoked with. A misspelled `dry_run` must not run for real.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    dry_run: bool,
}

/// One run of a schedule: what it may do, and what it has done so far.
#[derive(Debug)]
pub struct ScheduledRun {
    dry_run: bool,
    deadline: Instant,
    unfinished: bool,
    batches: u64,
    counts: Vec<(&'static str, u64)>,
    /// The counts that are also metrics.
    watched: Vec<&'static str>,
}

impl ScheduledRun {
    fn new(dry_run: bool, deadline: Instant) -> Self {
        Self { dry_run, deadline, unfinished: false, batches: 0, counts: Vec::new(), watched: Vec::new() }
    }

    /// Returns whether to count only and change nothing.
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

    /// Adds to a number of the summary that is also published as a metric, for an alarm. Every metric costs money, however seldom it changes.
    pub fn watch(&mut self, name: &'static str, amount: u64) {
        self.count(name, amount);
        if !self.watched.contains(&name) {
            self.watched.push(name);
        }
    }

    /// Reports that something is left for the next run.
    pub const fn set_unfinished(&mut self) {
        self.unfinished = true;
    }

    /// Returns whether there is time for another batch. If not, the run is unfinished.
    pub fn has_time(&mut self) -> bool {
        let has_time = self.deadline.saturating_duration_since(Instant::now()) > MIN_TIME;
        self.unfinished |= !has_time;
        has_time
    }

    /// Runs a batch, and retries it if the database was unavailable for a moment.
    ///
    /// # Errors
    /// The batch's own, when a retry does not help.
    pub async fn batch<T, Fut: Future<Output = Result<T, DbError>>>(&mut self, mut batch: impl FnMut() -> Fut) -> Result<T, DbError> {
        let mut retries = 0;
        loop {
            match batch().await {
                Err(error) if error.is_retryable() && retries < RETRIES && self.has_time() => {
                    retries += 1;
                    tracing::warn!(%error, retries, "batch failed, retrying");
                    tokio::time::sleep(PAUSE * retries).await;
                }
                outcome => {
                    self.batches += 1;
                    return outcome;
                }
            }
        }
    }

    /// Runs batches of up to `size` rows, each of which returns how many rows it took, until one takes fewer. Counts the rows as `name`.
    ///
    /// # Errors
    /// As [`ScheduledRun::batch`].
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

    fn counts(&self) -> Map<String, Value> {
        self.counts.iter().map(|&(name, count)| (name.to_owned(), Value::from(count))).collect()
    }

    /// Records what was done in the span, for the log line of the outcome.
    fn record(&self) {
        let span = tracing::Span::current();
        span.record("dry_run", self.dry_run).record("batches", self.batches);
        span.record("counts", Value::Object(self.counts()).to_string());
        if self.unfinished {
            tracing::warn!("something is left for the next run");
        }
    }

    /// Publishes whether the run completed: it neither failed nor left work. Everything else is in the log line of its outcome. A dry run has
    /// changed nothing: its numbers would say the opposite, and that the trouble of the last run is over.
    fn publish(&self, schedule: &'static str, duration_ms: u64, failed: bool) {
        if self.dry_run {
            return;
        }
        let metrics = Metrics::of("schedules")
            .dimension("schedule", schedule)
            .metric("schedule_completed", Unit::Count, u64::from(!failed && !self.unfinished))
            .property("duration_ms", duration_ms);
        let watched = self.counts.iter().filter(|(name, _)| self.watched.contains(name));
        watched.fold(metrics, |metrics, &(name, count)| metrics.metric(name, Unit::Count, count)).emit();
    }

    fn summary(&self, schedule: &'static str, duration_ms: u64) -> Summary {
        Summary { schedule, dry_run: self.dry_run, more: self.unfinished, batches: self.batches, duration_ms, counts: self.counts() }
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

/// Runs a schedule until the environment ends. What fails is counted as `SCHEDULE_FAILED`.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<D>(
    name: &'static str,
    deps: D,
    schedule: impl AsyncFn(&mut ScheduledRun, &D) -> Result<(), DbError>,
) -> Result<(), Error> {
    let (deps, schedule) = (&deps, &schedule);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| invoke(event, name, deps, schedule))).await
}

async fn invoke<D>(
    event: LambdaEvent<Value>,
    name: &'static str,
    deps: &D,
    schedule: &impl AsyncFn(&mut ScheduledRun, &D) -> Result<(), DbError>,
) -> Result<Summary, DirectFailure> {
    let started = Instant::now();
    let invocation = Invocation::from(&event.context);
    let span = invocation_span!("schedule", invocation, schedule = name, dry_run = Empty, batches = Empty, counts = Empty);
    let mut run = None;
    let work = async {
        let input: Input = serde_json::from_value(event.payload).map_err(|error| DirectFailure::malformed_input(&error))?;
        let run = run.insert(ScheduledRun::new(input.dry_run, invocation.deadline));
        let outcome = schedule(run, deps).await;
        run.record();
        outcome.map_err(|error| DirectFailure { code: "SCHEDULE_FAILED", cause: error.to_string() })
    };
    // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
    let outcome = invocation.run(span, &[("schedule", name)], Box::pin(work)).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Here and not within the work, so that a panic is published as well.
    if let Some(run) = &run {
        run.publish(name, duration_ms, outcome.is_err());
    }
    outcome.map(|()| run.unwrap_or_else(|| ScheduledRun::new(false, started)).summary(name, duration_ms))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use lambda_runtime::Context;
    use serde_json::json;

    use super::*;

    fn scheduled_run(left: Duration) -> ScheduledRun {
        ScheduledRun::new(false, Instant::now() + left)
    }

    #[tokio::test]
    async fn batches_go_on_until_one_is_not_full() {
        let rows = Cell::new(1200_u64);
        let mut run = scheduled_run(Duration::from_mins(5));
        let batch = || async {
            let taken = rows.get().min(500);
            rows.set(rows.get() - taken);
            Ok(taken)
        };
        run.batches("leads", 500, batch).await.unwrap();
        assert_eq!((rows.get(), run.batches, run.unfinished), (0, 3, false));
        assert_eq!(
            serde_json::to_value(run.summary("clean_up", 7)).unwrap(),
            json!({ "schedule": "clean_up", "dry_run": false, "more": false, "batches": 3, "duration_ms": 7, "leads": 1200 })
        );
    }

    #[tokio::test]
    async fn a_run_without_enough_time_is_unfinished() {
        let mut run = scheduled_run(MIN_TIME + Duration::from_millis(50));
        let batch = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(500)
        };
        run.batches("leads", 500, batch).await.unwrap();
        assert!(run.unfinished);
        assert!((1..=5).contains(&run.batches), "{}", run.batches);
        run.batches("accounts", 500, batch).await.unwrap();
        assert_eq!(run.counts.last(), Some(&("accounts", 0)));
    }

    #[tokio::test]
    async fn a_batch_is_retried_only_when_that_may_help() {
        let tries = Cell::new(0);
        let mut run = scheduled_run(Duration::from_mins(5));
        let conflict = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(DbError::Conflict("deadlock".to_owned())) } else { Ok(7) }
        };
        assert_eq!(run.batch(conflict).await.unwrap(), 7);
        assert_eq!(tries.get(), 3);
        let rule = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(DbError::Rule { code: "23503".to_owned(), message: "m".to_owned() })
        };
        assert!(run.batch(rule).await.is_err());
        assert_eq!(tries.get(), 4);
    }

    async fn invoked(payload: Value) -> Result<Value, &'static str> {
        let schedule = async |run: &mut ScheduledRun, (): &()| {
            run.count("rows", 1);
            if run.dry_run() { Err(DbError::Unexpected("dry".to_owned())) } else { Ok(()) }
        };
        let outcome = invoke(LambdaEvent::new(payload, Context::default()), "clean_up", &(), &schedule).await;
        outcome.map(|summary| json!(summary)["rows"].clone()).map_err(|failure| failure.code)
    }

    #[tokio::test]
    async fn a_misspelled_dry_run_is_rejected() {
        assert_eq!(invoked(json!({})).await, Ok(json!(1)));
        assert_eq!(invoked(json!({ "dry_run": true })).await, Err("SCHEDULE_FAILED"));
        assert_eq!(invoked(json!({ "dryRun": true })).await, Err("MALFORMED_INPUT"));
    }
}
