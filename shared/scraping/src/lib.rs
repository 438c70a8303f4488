//! The life of an Actor run: start, remember, wait, record, read, and abort when its profiles are not needed any longer.
//!
//! An Actor run costs money and cannot be started idempotently. So it is remembered with its [`Owner`] before anything else happens, and
//! a repeated call waits for it instead of starting another. It is recorded as soon as its end is known, once. Apify may settle its
//! cost later: then it is recorded as unknown, and read again while later Actor runs are waited for.

mod error;
mod owner;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_db::workflow::VendorCall;
use oslira_db::{AdminDb, DbError};
use oslira_domain::{MicroUsd, Username};
use oslira_telemetry::{Metrics, Unit};
use oslira_vendors::{ActorCost, ActorRun, ActorRunStatus, Apify, ScrapeOutcome, ScrapedItem, VendorError};
use tokio::time::timeout_at;

pub use self::error::ScrapeError;
pub use self::owner::Owner;

/// The pause between two attempts to start an Actor run while Apify has no free resources.
const BUSY_PAUSE: Duration = Duration::from_secs(3);
/// How many Actor runs' costs are read again while one is waited for.
const SETTLED_AT_ONCE: u32 = 2;
/// How long reading a cost may take.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// How long an Actor run is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long one poll waits at Apify. The owner is checked after each poll.
    pub poll: Duration,
    /// When an Actor run that has not ended is aborted.
    pub deadline: Instant,
    /// How long after the deadline an Actor run may be aborted or its items be read.
    pub grace: Duration,
    /// How long to wait for Apify to have free resources.
    pub busy: Duration,
}

/// What an Actor run found, all of its handles or, if it ended without success, some.
#[derive(Debug)]
pub struct Scraped {
    /// The Actor run.
    pub actor_run: ActorRun,
    /// The outcome of each handle, in the order of the handles.
    pub items: Vec<ScrapedItem>,
}

/// Runs Apify's Actor for its owners.
#[derive(Clone)]
pub struct Scraper {
    apify: Apify,
    db: AdminDb,
}

impl Scraper {
    /// Makes a scraper that remembers and records Actor runs in `db`.
    pub fn new(apify: Apify, db: AdminDb) -> Self {
        Self { apify, db }
    }

    /// Fetches Apify's token, so that the first Actor run does not wait for it.
    pub async fn prepare(&self) {
        self.apify.prepare().await;
    }

    /// Fetches the profiles of `handles` in one Actor run: the one that the owner has `remembered`, or a new one.
    ///
    /// An Actor run that ends without success and without a profile is recorded and forgotten, so that the next call starts another. One that
    /// found some of the profiles returns those. One that is interrupted, by an error or the end of this process, stays remembered.
    ///
    /// # Errors
    /// Fails with [`ScrapeError`].
    pub async fn scrape(
        &self,
        owner: &Owner<'_>,
        handles: &[Username],
        remembered: Option<String>,
        limits: &Limits,
    ) -> Result<Scraped, ScrapeError> {
        if limits.is_over() {
            // Neither is an Actor run started that could not be waited for, nor one aborted that may be about to succeed.
            return Err(ScrapeError::Deadline);
        }
        let clock = Clock::start();
        let id = match remembered {
            Some(id) => id,
            None => self.start(owner, handles, limits, &clock).await?,
        };
        let (waited, ()) = tokio::join!(self.wait(owner, &id, limits, &clock), self.settle());
        let actor_run = match waited {
            Err(error @ (ScrapeError::Vendor(_) | ScrapeError::Database(_))) if !owner.remembers() => {
                self.abort(owner, running(&id), limits, &clock).await;
                return Err(error);
            }
            outcome => outcome?,
        };
        if actor_run.status == ActorRunStatus::Succeeded {
            let (recorded, items) = tokio::join!(self.record(owner, &actor_run, &clock), self.read(&actor_run, handles, limits));
            recorded?;
            return Ok(Scraped { items: items?, actor_run });
        }
        // What it found before it ended is paid for, too.
        let (recorded, found) = tokio::join!(self.record(owner, &actor_run, &clock), self.read_partial(&actor_run, handles, limits));
        recorded?;
        if let Some(items) = found {
            return Ok(Scraped { actor_run, items });
        }
        self.forget(owner, &actor_run).await?;
        Err(match actor_run.status {
            ActorRunStatus::Failed | ActorRunStatus::TimedOut => ScrapeError::Unsuccessful(actor_run.status),
            // By this process at the deadline, or by an operator.
            ActorRunStatus::Aborted if !limits.is_over() => ScrapeError::Unsuccessful(actor_run.status),
            _ => ScrapeError::Deadline,
        })
    }

    /// Forgets an Actor run, so that the owner's next call starts another.
    ///
    /// # Errors
    /// As any statement.
    pub async fn forget(&self, owner: &Owner<'_>, actor_run: &ActorRun) -> Result<(), DbError> {
        owner.forget(&self.db, &actor_run.id).await
    }

    /// Starts an Actor run and remembers it. If a concurrent delivery of the same work was faster, aborts it and returns the other one's id.
    async fn start(&self, owner: &Owner<'_>, handles: &[Username], limits: &Limits, clock: &Clock) -> Result<String, ScrapeError> {
        let started = match self.start_when_free(handles, limits).await {
            Ok(started) => started,
            Err(error) => {
                if owner.records_failed_start(&error) {
                    owner.record(&self.db, &unanswered_start(clock)).await?;
                }
                return Err(if limits.is_over() { ScrapeError::Deadline } else { error.into() });
            }
        };
        let remembered = owner.remember(&self.db, &started.id).await;
        // An Actor run that is not remembered would never be found again.
        if !matches!(&remembered, Ok(Some(id)) if *id == started.id) {
            self.abort(owner, started, limits, clock).await;
        }
        remembered?.ok_or(ScrapeError::NotNeeded)
    }

    async fn start_when_free(&self, handles: &[Username], limits: &Limits) -> Result<ActorRun, VendorError> {
        let begun = Instant::now();
        loop {
            match timeout_at(limits.deadline.into(), self.apify.start(handles)).await.unwrap_or(Err(VendorError::Timeout)) {
                Err(VendorError::RateLimited { .. }) if begun.elapsed() < limits.busy => tokio::time::sleep(BUSY_PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// Waits until the Actor run ends or the deadline is over, when it is aborted, and returns it as it is then.
    async fn wait(&self, owner: &Owner<'_>, id: &str, limits: &Limits, clock: &Clock) -> Result<ActorRun, ScrapeError> {
        loop {
            let actor_run = match timeout_at(limits.deadline.into(), self.apify.wait(id, limits.poll)).await {
                Ok(actor_run) => actor_run?,
                Err(_) => return Ok(self.stop(running(id), limits).await),
            };
            if actor_run.status.is_terminal() {
                return Ok(actor_run);
            }
            if !owner.needs_profiles(&self.db).await? {
                self.abort(owner, actor_run, limits, clock).await;
                return Err(ScrapeError::NotNeeded);
            }
            if limits.is_over() {
                return Ok(self.stop(actor_run, limits).await);
            }
        }
    }

    async fn read(&self, actor_run: &ActorRun, handles: &[Username], limits: &Limits) -> Result<Vec<ScrapedItem>, ScrapeError> {
        let items = timeout_at(limits.end().into(), self.apify.items(actor_run, handles)).await;
        Ok(items.map_err(|_| ScrapeError::Deadline)??)
    }

    /// Reads the items of an Actor run that ended without success. `None` unless one of them is of use.
    async fn read_partial(&self, actor_run: &ActorRun, handles: &[Username], limits: &Limits) -> Option<Vec<ScrapedItem>> {
        if !matches!(actor_run.status, ActorRunStatus::Failed | ActorRunStatus::TimedOut) {
            return None;
        }
        let items = self.read(actor_run, handles, limits).await.inspect_err(|error| {
            tracing::warn!(%error, actor_run = actor_run.id, "items of an unsuccessful Actor run not read");
        });
        let is_useful = |item: &ScrapedItem| !matches!(item.outcome, ScrapeOutcome::Blocked | ScrapeOutcome::WithoutPosts);
        items.ok().filter(|items| items.iter().any(is_useful))
    }

    /// Aborts an Actor run and records what it has cost so far.
    async fn abort(&self, owner: &Owner<'_>, actor_run: ActorRun, limits: &Limits, clock: &Clock) {
        let aborted = self.stop(actor_run, limits).await;
        if let Err(error) = self.record(owner, &aborted, clock).await {
            tracing::warn!(%error, actor_run = aborted.id, "aborted Actor run not recorded");
        }
    }

    /// Aborts an Actor run and returns it with its cost so far. One that cannot be aborted ends by itself, within its own time limit.
    async fn stop(&self, actor_run: ActorRun, limits: &Limits) -> ActorRun {
        let until = limits.end().max(Instant::now() + limits.grace.min(Duration::from_secs(2)));
        match timeout_at(until.into(), self.apify.abort(&actor_run.id)).await.unwrap_or(Err(VendorError::Timeout)) {
            Ok(aborted) => aborted,
            Err(error) => {
                tracing::warn!(%error, actor_run = actor_run.id, "Actor run not aborted");
                actor_run
            }
        }
    }

    async fn record(&self, owner: &Owner<'_>, actor_run: &ActorRun, clock: &Clock) -> Result<(), DbError> {
        let cost = self.cost(actor_run).await;
        let call = VendorCall::scrape(
            &actor_run.id,
            actor_run.status.recorded_as(),
            (cost.amount(), cost.is_known()),
            clock.started_at.as_millisecond(),
            clock.elapsed_ms(),
        );
        owner.record(&self.db, &call).await.inspect_err(|error| {
            tracing::error!(%error, actor_run = actor_run.id, cost_micro_usd = cost.amount().0, "Actor run not recorded");
        })?;
        if !cost.is_known() {
            count_unknown_cost(&actor_run.id);
        }
        Ok(())
    }

    /// Returns what an Actor run cost, as far as that can be found out now.
    async fn cost(&self, actor_run: &ActorRun) -> ActorCost {
        match timeout_at(tokio::time::Instant::now() + SETTLE_TIME, self.apify.cost(actor_run)).await.unwrap_or(Err(VendorError::Timeout)) {
            Ok(cost) => cost,
            Err(error) => {
                tracing::warn!(%error, actor_run = actor_run.id, "items of an Actor run not counted");
                actor_run.cost
            }
        }
    }

    /// Reads costs again that were not known when their Actor runs were recorded. Those that still are not, or cannot be read, are left to the
    /// next call.
    async fn settle(&self) {
        let unsettled = self.db.take_unsettled_scrapes(SETTLED_AT_ONCE).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "unsettled costs not read");
            Vec::new()
        });
        for id in unsettled {
            let read = async {
                let actor_run = self.apify.wait(&id, Duration::ZERO).await?;
                self.apify.cost(&actor_run).await
            };
            let settled = match timeout_at(tokio::time::Instant::now() + SETTLE_TIME, read).await.unwrap_or(Err(VendorError::Timeout)) {
                Ok(ActorCost::Known(cost)) => self.db.settle_scrape_cost(&id, cost).await,
                Ok(_) => Ok(()),
                Err(error) => {
                    tracing::warn!(%error, actor_run = id, "cost of an Actor run not read");
                    Ok(())
                }
            };
            if let Err(error) = settled {
                tracing::warn!(%error, actor_run = id, "cost of an Actor run not recorded");
            }
        }
    }
}

impl Limits {
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Returns when the grace after the deadline is over.
    fn end(&self) -> Instant {
        self.deadline + self.grace
    }
}

/// When the work on an Actor run began.
struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { started_at: Timestamp::now(), started: Instant::now() }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Returns the record of a start after which an Actor run may exist. Its id and cost are unknown.
fn unanswered_start(clock: &Clock) -> VendorCall {
    VendorCall {
        response_id: None,
        error_message: Some("no response to the start: the Actor may run".to_owned()),
        ..VendorCall::scrape(
            "",
            ActorRunStatus::TimedOut.recorded_as(),
            (MicroUsd::ZERO, false),
            clock.started_at.as_millisecond(),
            clock.elapsed_ms(),
        )
    }
}

/// Counts an Actor run whose cost Apify has not settled. Most are settled later; those that are not are on Apify's invoice.
fn count_unknown_cost(actor_run_id: &str) {
    Metrics::of("vendor_costs").metric("unknown_costs", Unit::Count, 1).property("actor_run", actor_run_id).emit();
}

/// Returns an Actor run of which only the id is known.
fn running(id: &str) -> ActorRun {
    ActorRun { id: id.to_owned(), dataset_id: String::new(), status: ActorRunStatus::Running, cost: ActorCost::UNKNOWN, finished_at: None }
}
