//! Actor runs. A run's course is decided when it starts; its state follows from the clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bill::{APIFY_ERROR_ITEM, APIFY_ITEM};
use crate::calls::Metered;
use crate::faults::RunPace;
use crate::profiles::Listing;
use crate::wire;

/// The opaque id of `apify/instagram-profile-scraper`.
pub(crate) const ACTOR_ID: &str = "dSCLg0C3YEZ83HzYX";
/// The longest time that a run is READY.
const LONGEST_READY: Duration = Duration::from_millis(50);
/// How long after its end Apify reports what a run cost.
const SETTLES_AFTER: Duration = Duration::from_secs(10);
/// The time that a run takes to abort.
const ABORT_TIME: Duration = Duration::from_millis(20);

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
    TimedOut,
    Aborted,
}

impl End {
    fn status(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED-OUT",
            Self::Aborted => "ABORTED",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Succeeded => "Finished! Scraped all profiles.",
            Self::Failed => "The Actor process failed: exit code 91.",
            Self::TimedOut => "The Actor run timed out.",
            Self::Aborted => "The Actor run was aborted.",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    at: Instant,
    end: End,
    aborting: bool,
}

/// The course of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) input: Bytes,
    pub(crate) handles: Vec<String>,
    pub(crate) listings: Vec<Listing>,
    pub(crate) pace: RunPace,
    pub(crate) end: End,
    /// How many items a run has that does not succeed.
    pub(crate) partial: usize,
    /// How long after the end neither its cost nor its charged events are reported, if that is longer than usual.
    pub(crate) unsettled: Option<Duration>,
    /// The run's own timeout (query parameter `timeout`).
    pub(crate) limit: Option<Duration>,
}

/// One Actor run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) dataset_id: String,
    pub(crate) input: Bytes,
    pub(crate) handles: Vec<String>,
    listings: Vec<Listing>,
    pace: RunPace,
    unsettled: Option<Duration>,
    started: Instant,
    started_at: Timestamp,
    ending: Mutex<Ending>,
    changed: Notify,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let Plan { input, handles, mut listings, pace, mut end, partial, unsettled, limit } = plan;
        let started = Instant::now();
        let count = u32::try_from(handles.len()).unwrap_or(u32::MAX);
        let mut takes = pace.start.saturating_add(pace.per_profile.saturating_mul(count));
        if let Some(limit) = limit.filter(|limit| *limit < takes) {
            (takes, end) = (limit, End::TimedOut);
        } else if end != End::Succeeded {
            listings.truncate(partial);
        }
        // A time beyond the clock's range becomes a day.
        let at = started.checked_add(takes).unwrap_or(started + Duration::from_hours(24));
        Self {
            id: wire::id(17),
            dataset_id: wire::id(17),
            input,
            handles,
            listings,
            pace,
            unsettled,
            started,
            started_at: Timestamp::now(),
            ending: Mutex::new(Ending { at, end, aborting: false }),
            changed: Notify::new(),
        }
    }

    fn ending(&self) -> Ending {
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current status.
    pub(crate) fn status(&self) -> &'static str {
        let ending = self.ending();
        if ending.at <= Instant::now() {
            ending.end.status()
        } else if ending.aborting {
            "ABORTING"
        } else if self.started.elapsed() < (self.pace.start / 10).min(LONGEST_READY) {
            "READY"
        } else {
            "RUNNING"
        }
    }

    /// Returns whether the run has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ending().at <= Instant::now()
    }

    /// Returns the number of items so far. A run that ends early gets no further items.
    fn done(&self) -> usize {
        let ending = self.ending();
        let now = Instant::now().min(ending.at);
        if ending.end == End::Succeeded && ending.at <= now {
            return self.listings.len();
        }
        let worked = now.duration_since(self.started).saturating_sub(self.pace.start);
        let done = worked.as_micros() / self.pace.per_profile.as_micros().max(1);
        usize::try_from(done).map_or(self.listings.len(), |done| done.min(self.listings.len()))
    }

    /// Returns the items so far.
    pub(crate) fn items(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.listings.get(..self.done()).unwrap_or_default().iter().map(|listing| &listing.item)
    }

    /// Waits for the end of the run, at most this long.
    pub(crate) async fn wait(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        loop {
            // Registered before the clock is read, so that an abort in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let at = self.ending().at;
            if at <= Instant::now() || deadline <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(at.min(deadline)) => {}
                () = changed => {}
            }
        }
    }

    /// Ends the run early. A run that has ended stays as it is.
    pub(crate) fn abort(&self) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Instant::now() + ABORT_TIME;
        if ending.at > at {
            *ending = Ending { at, end: End::Aborted, aborting: true };
            drop(ending);
            self.changed.notify_waiters();
        }
    }

    /// Returns the Run object of the API.
    pub(crate) fn json(&self) -> Value {
        let ending = self.ending();
        let over = ending.at <= Instant::now();
        let runtime = ending.at.min(Instant::now()).duration_since(self.started);
        let finished_at = over.then(|| (self.started_at + runtime).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
        // The total follows the end of the run. The charged events are usually reported at once.
        let is_settled = |after: Duration| over && ending.at.elapsed() >= after;
        let is_charged = self.unsettled.is_none_or(is_settled);
        let (normal, errors) = self
            .listings
            .get(..self.done())
            .unwrap_or_default()
            .iter()
            .filter(|_| is_charged)
            .fold((0, 0), |(normal, errors), listing| if listing.is_error { (normal, errors + 1) } else { (normal + 1, errors) });
        #[expect(clippy::cast_precision_loss, reason = "a run never costs 2^53 millionths")]
        let usd = if is_settled(self.unsettled.unwrap_or(SETTLES_AFTER)) { self.cost() as f64 / 1e6 } else { 0.0 };
        json!({
            "id": self.id, "actId": ACTOR_ID, "userId": "sandboxUser000001", "actorTaskId": null,
            "startedAt": self.started_at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(), "finishedAt": finished_at, "status": self.status(),
            "statusMessage": if over { ending.end.message() } else { "Scraping profiles" }, "isStatusMessageTerminal": over,
            "meta": {"origin": "API", "clientIp": "127.0.0.1", "userAgent": "sandbox"},
            "stats": {"inputBodyLen": self.input.len(), "migrationCount": 0, "rebootCount": 0, "restartCount": 0, "resurrectCount": 0,
                "durationMillis": u64::try_from(runtime.as_millis()).unwrap_or(u64::MAX), "runTimeSecs": runtime.as_secs_f64(), "metamorph": 0,
                "computeUnits": 0.001, "memAvgBytes": 173_015_040.0, "memMaxBytes": 241_172_480, "memCurrentBytes": 0},
            "options": {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "diskMbytes": 2048},
            "buildId": "sandboxBuild00001", "buildNumber": "0.0.1",
            "exitCode": match (over, ending.end) { (false, _) => Value::Null, (true, End::Succeeded) => 0.into(), (true, _) => 91.into() },
            "generalAccess": "FOLLOW_USER_SETTING", "defaultKeyValueStoreId": format!("{:.16}k", self.id),
            "defaultDatasetId": self.dataset_id, "defaultRequestQueueId": format!("{:.16}q", self.id),
            "containerUrl": "https://sandbox.runs.example", "isContainerServerReady": false,
            "usage": {"ACTOR_COMPUTE_UNITS": 0.001}, "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.0}, "usageTotalUsd": usd,
            "pricingInfo": {"pricingModel": "PAY_PER_EVENT", "createdAt": "2025-01-01T00:00:00.000Z", "startedAt": "2025-01-01T00:00:00.000Z",
                "apifyMarginPercentage": 0.0, "pricingPerEvent": {"actorChargeEvents": {
                    "result": {"eventTitle": "Result", "eventDescription": "A profile", "eventPriceUsd": 0.0023},
                    "error-result": {"eventTitle": "Error result", "eventDescription": "A profile that does not exist", "eventPriceUsd": 0.001}}}},
            "chargedEventCounts": {"result": normal, "error-result": errors}, "platformUsageBillingModel": "DEVELOPER"
        })
    }
}

impl Metered for Run {
    fn cost(&self) -> i64 {
        let listings = self.listings.get(..self.done()).unwrap_or_default();
        listings.iter().map(|listing| if listing.is_error { APIFY_ERROR_ITEM } else { APIFY_ITEM }).sum()
    }
}

/// All runs, by run id and by dataset id.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<HashMap<String, Arc<Run>>>);

impl Runs {
    /// Starts a run.
    pub(crate) fn start(&self, plan: Plan) -> Arc<Run> {
        let run = Arc::new(Run::new(plan));
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run.id.clone(), Arc::clone(&run));
        runs.insert(run.dataset_id.clone(), Arc::clone(&run));
        run
    }

    /// Returns the run of this run id or dataset id.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Returns all runs, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Run>> {
        let mut runs: Vec<Arc<Run>> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        runs.sort_by(|one, other| other.started.cmp(&one.started).then_with(|| one.id.cmp(&other.id)));
        runs.dedup_by(|one, other| one.id == other.id);
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(handles: usize, start_ms: u64, per_profile_ms: u64, end: End) -> Plan {
        let handles: Vec<String> = (0..handles).map(|n| format!("h{n}")).collect();
        let listings = handles.iter().enumerate().map(|(n, h)| Listing { item: json!({"username": h}), is_error: n == 0 }).collect();
        let pace = RunPace { start: Duration::from_millis(start_ms), per_profile: Duration::from_millis(per_profile_ms) };
        Plan { input: Bytes::new(), handles, listings, pace, end, partial: 0, unsettled: None, limit: None }
    }

    #[tokio::test]
    async fn items_and_cost_grow_until_the_end() {
        let run = Run::new(plan(3, 200, 200, End::Succeeded));
        assert_eq!((run.status(), run.items().len(), run.cost()), ("READY", 0, 0));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((run.status(), run.items().len(), run.cost()), ("RUNNING", 1, 1_000));
        run.wait(Duration::from_mins(1)).await;
        assert_eq!((run.status(), run.items().len(), run.cost()), ("SUCCEEDED", 3, 5_600));
        assert!((800..1_200).contains(&run.started.elapsed().as_millis()));
    }

    #[tokio::test]
    async fn an_abort_ends_a_wait_and_the_items_so_far_are_billed() {
        let run = Arc::new(Run::new(plan(10, 100, 200, End::Succeeded)));
        let waiting = tokio::spawn({
            let run = Arc::clone(&run);
            async move { run.wait(Duration::from_mins(1)).await }
        });
        tokio::time::sleep(Duration::from_millis(600)).await;
        run.abort();
        assert_eq!(run.status(), "ABORTING");
        waiting.await.unwrap();
        assert!((620..900).contains(&run.started.elapsed().as_millis()));
        assert_eq!((run.status(), run.items().len(), run.cost()), ("ABORTED", 2, 3_300));
        run.abort();
        assert_eq!(run.status(), "ABORTED");
    }

    #[tokio::test]
    async fn a_cost_settles_after_the_end() {
        let reported = |run: &Run| {
            let json = run.json();
            (json["usageTotalUsd"].as_f64().unwrap(), json["chargedEventCounts"]["result"].as_i64().unwrap())
        };
        let run = Run::new(plan(3, 10, 10, End::Succeeded));
        run.wait(Duration::from_mins(1)).await;
        assert_eq!((run.cost(), reported(&run)), (5_600, (0.0, 2)));
        let run = Run::new(Plan { unsettled: Some(Duration::from_millis(200)), ..plan(3, 10, 10, End::Succeeded) });
        run.wait(Duration::from_mins(1)).await;
        assert_eq!(reported(&run), (0.0, 0));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(reported(&run), (0.0056, 2));
    }

    #[tokio::test]
    async fn a_failed_run_has_no_items_and_a_timeout_ends_a_run() {
        let failed = Run::new(plan(3, 10, 10, End::Failed));
        failed.wait(Duration::from_mins(1)).await;
        assert_eq!((failed.status(), failed.items().len(), failed.cost()), ("FAILED", 0, 0));
        let limited = Run::new(Plan { limit: Some(Duration::from_millis(150)), ..plan(3, 10, 100, End::Succeeded) });
        limited.wait(Duration::from_mins(1)).await;
        assert_eq!((limited.status(), limited.items().len()), ("TIMED-OUT", 1));
    }
}
