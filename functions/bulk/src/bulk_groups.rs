//! The consumer of the queue of bulk groups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::profiles::Profiles;
use oslira_db::AdminDb;
use oslira_db::bulk::WaitingRun;
use oslira_domain::cache::CachedProfile;
use oslira_domain::{BatchId, ExecutionInput, FailureCode, Run, RunId, Username};
use oslira_lambda::queue::{Message, MessageError};
use oslira_lambda::{Error, Init};
use oslira_scraping::{Limits, Owner, ScrapeError, Scraped, Scraper};
use oslira_vendors::{Apify, ScrapeOutcome};

use crate::config::GroupsConfig;
use crate::group::Group;

/// How many cache look-ups, cache writes or starts run at the same time.
const AT_ONCE: usize = 10;
/// The part of an invocation's time that is left for what follows the Actor run: reading its items, the cache, the starts.
const TIME_AFTERWARDS: Duration = Duration::from_secs(40);
/// The part of that which reading the items may take.
const READ_TIME: Duration = Duration::from_secs(30);
/// How long one poll waits at Apify.
const POLL: Duration = Duration::from_secs(5);
/// How long to wait for Apify to have free resources.
const BUSY: Duration = Duration::from_mins(1);

/// The dependencies of the consumer, which fetches the profiles of groups and starts their runs.
pub struct GroupConsumer {
    db: AdminDb,
    scraper: Scraper,
    profiles: Profiles,
    executions: Executions,
}

impl GroupConsumer {
    /// Returns the dependencies that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(init: Init<GroupsConfig>) -> Result<Self, Error> {
        let db = init.admin_db();
        let Init { config, aws, secrets } = init;
        let apify = Apify::new(oslira_vendors::http_client()?, config.apify_base_url, secrets.credential("apify"));
        Ok(Self {
            scraper: Scraper::new(apify, db.clone()),
            db,
            profiles: Profiles::new(&aws, config.profile_bucket),
            executions: Executions::new(&aws, config.state_machine_arn),
        })
    }
}

/// Fetches the profiles of a group that are not cached, in one Actor run, caches them and starts the group's runs, which charge and end
/// themselves. Runs of private and of missing profiles are failed here, uncharged. A profile that Instagram did not return this time is
/// fetched by its run.
///
/// A redelivery continues an interrupted delivery: runs that are no longer pending are skipped, the Actor run is remembered and recorded
/// once, and starting is idempotent by the run's id.
///
/// # Errors
/// Fails with [`MessageError`]. The group is redelivered, and goes to the dead-letter queue after the fifth failure.
pub async fn bulk_groups(message: Message, consumer: &GroupConsumer) -> Result<(), MessageError> {
    let group = Group::parse(&message.body)?;
    let span = tracing::Span::current();
    span.record("batch_id", group.batch_id.as_str());
    let waiting = consumer.db.begin_group(&group.batch_id, &group.run_ids).await?;
    if let Some(first) = waiting.first() {
        span.record("account_id", first.run.account_id.to_string());
    }
    let looks = stream::iter(waiting).map(|waiting| consumer.look(waiting)).buffered(AT_ONCE).collect::<Vec<_>>().await;
    let mut cached = Vec::new();
    // Usually no Actor run is remembered, or the same one for all.
    let mut missing: BTreeMap<Option<String>, Vec<Run>> = BTreeMap::new();
    for (WaitingRun { run, scrape_run_id }, is_cached) in looks {
        if is_cached { cached.push(run) } else { missing.entry(scrape_run_id).or_default().push(run) }
    }
    tracing::info!(cached = cached.len(), missing = missing.values().map(Vec::len).sum::<usize>(), "looked up");
    let fetched = async {
        for (remembered, runs) in missing {
            consumer.fetch(&group.batch_id, runs, remembered, &message).await?;
        }
        Ok(())
    };
    let (begun, fetched) = tokio::join!(consumer.start_all(&cached), fetched);
    begun.and(fetched)
}

impl GroupConsumer {
    /// Whether the cache has an entry that serves the run. A cache that is unavailable has none.
    async fn look(&self, waiting: WaitingRun) -> (WaitingRun, bool) {
        let found = self.profiles.latest(&waiting.run.username).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cache look-up failed");
            None
        });
        let is_cached = found.is_some_and(|(entry, _)| entry.serves(waiting.run.tier, Timestamp::now()));
        (waiting, is_cached)
    }

    /// Fetches the profiles of these runs, and starts or fails each run.
    async fn fetch(&self, batch_id: &BatchId, runs: Vec<Run>, remembered: Option<String>, message: &Message) -> Result<(), MessageError> {
        let run_ids: Vec<RunId> = runs.iter().map(|run| run.run_id.clone()).collect();
        let handles: Vec<Username> = runs.iter().map(|run| run.username.clone()).collect();
        let deadline = message.deadline.checked_sub(TIME_AFTERWARDS).unwrap_or_else(Instant::now);
        let limits = Limits { poll: POLL, deadline, grace: READ_TIME, busy: BUSY };
        let owner = Owner::Group { batch_id, run_ids: &run_ids };
        let Scraped { actor_run, items } = match self.scraper.scrape(&owner, &handles, remembered, &limits).await {
            Ok(scraped) => scraped,
            Err(ScrapeError::NotNeeded) => return Ok(()),
            Err(ScrapeError::Vendor(error)) => return Err(error.into()),
            Err(ScrapeError::Database(error)) => return Err(error.into()),
            Err(error @ (ScrapeError::Unsuccessful(_) | ScrapeError::Deadline)) => {
                return Err(MessageError::Unavailable(error.to_string()));
            }
        };
        let (mut found, mut others, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
        let mut unusable = BTreeMap::<&str, (FailureCode, Vec<RunId>)>::new();
        for (run, item) in runs.into_iter().zip(items) {
            let mut end = |code: FailureCode, run: Run| unusable.entry(code.as_str()).or_insert((code, Vec::new())).1.push(run.run_id);
            match item.outcome {
                ScrapeOutcome::Found(profile) => found.push((run, profile)),
                ScrapeOutcome::Private(_) => end(FailureCode::ProfilePrivate, run),
                ScrapeOutcome::NotFound => end(FailureCode::ProfileNotFound, run),
                ScrapeOutcome::Restricted => end(FailureCode::ProfileRestricted, run),
                ScrapeOutcome::Blocked => {
                    blocked.push(run.run_id.clone());
                    others.push(run);
                }
                // The Actor run stays remembered: the run's own task reads it, and fetches the profile once more.
                ScrapeOutcome::WithoutPosts => others.push(run),
            }
        }
        for (code, run_ids) in unusable.into_values() {
            self.db.fail_pending(batch_id, &run_ids, code).await?;
        }
        if !blocked.is_empty() {
            // Forgotten, so that their own tasks start another Actor run instead of reading that this one found nothing.
            self.scraper.forget(&Owner::Group { batch_id, run_ids: &blocked }, &actor_run).await?;
        }
        let scraped_at = actor_run.finished_at.unwrap_or_else(Timestamp::now);
        let keeps = stream::iter(found).map(async |(run, profile)| {
            if let Err(error) = self.profiles.put(&CachedProfile::new(profile, scraped_at)).await {
                tracing::warn!(%error, "profile not cached"); // its run reads it from the Actor run, which is remembered
            }
            self.start(&run).await
        });
        let (kept, others) = tokio::join!(keeps.buffer_unordered(AT_ONCE).collect::<Vec<_>>(), self.start_all(&others));
        kept.into_iter().collect::<Result<(), _>>().and(others)
    }

    /// Starts all runs, even if one of them cannot be started.
    async fn start_all(&self, runs: &[Run]) -> Result<(), MessageError> {
        let starts = stream::iter(runs).map(|run| self.start(run)).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        starts.into_iter().collect()
    }

    async fn start(&self, run: &Run) -> Result<(), MessageError> {
        Ok(self.executions.start(&ExecutionInput::accepted(run.clone(), 0)).await?)
    }
}
