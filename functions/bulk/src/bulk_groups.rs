//! The consumer of the queue of bulk groups.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::profiles::Profiles;
use oslira_db::AdminDb;
use oslira_db::bulk::WaitingRun;
use oslira_domain::cache::CachedProfile;
use oslira_domain::{BatchId, FailureCode, Run, RunId, Step, StepTiming, Username};
use oslira_lambda::queue::{Message, MessageError};
use oslira_lambda::{Error, Init};
use oslira_vendors::{Apify, ScrapeOutcome};

use crate::config::GroupsConfig;
use crate::group::Group;
use crate::scrape::{Scraper, Visit, Visited};

/// How many profiles are looked up, kept or started at once.
const AT_ONCE: usize = 10;

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
        let apify = Apify::new(oslira_vendors::http_client()?, config.apify_base_url);
        Ok(Self {
            scraper: Scraper { apify, secrets, db: db.clone() },
            db,
            profiles: Profiles::new(&aws, config.profile_bucket),
            executions: Executions::new(&aws, config.state_machine_arn),
        })
    }
}

/// Fetches the profiles of a group that no cache has, in one Actor run, and starts the group's runs, which find them there. Every run charges
/// and ends itself from then on. Private profiles, and those that Instagram does not know, end here, uncharged; one that Instagram did
/// not show this time is fetched by its run.
///
/// A delivery goes on where an earlier one was interrupted: runs that are no longer pending are left alone, the Actor run is remembered and
/// booked once, and starting is idempotent by the run's id.
///
/// # Errors
/// [`MessageError`]; the group comes again, and after the third time goes to the dead letters.
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
    // Usually none is remembered, or one for all.
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
    /// Whether the cache has a copy that the run may use. A cache that does not answer has none.
    async fn look(&self, waiting: WaitingRun) -> (WaitingRun, bool) {
        let found = self.profiles.latest(&waiting.run.username).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cache not asked");
            None
        });
        let is_cached = found.is_some_and(|(entry, _)| entry.serves(waiting.run.tier, Timestamp::now()));
        (waiting, is_cached)
    }

    /// Fetches the profiles of these runs and starts, or ends, each.
    async fn fetch(&self, batch_id: &BatchId, runs: Vec<Run>, remembered: Option<String>, message: &Message) -> Result<(), MessageError> {
        let run_ids: Vec<RunId> = runs.iter().map(|run| run.run_id.clone()).collect();
        let handles: Vec<Username> = runs.iter().map(|run| run.username.clone()).collect();
        let visit = Visit { batch_id, run_ids: &run_ids, handles: &handles, remembered, deadline: message.deadline };
        let Some(Visited { actor_run, items }) = self.scraper.visit(&visit).await? else { return Ok(()) };
        let (mut found, mut blocked, mut hopeless) = (Vec::new(), Vec::new(), BTreeMap::<&str, (FailureCode, Vec<RunId>)>::new());
        for (run, item) in runs.into_iter().zip(items) {
            let mut end = |code: FailureCode, run: Run| hopeless.entry(code.as_str()).or_insert((code, Vec::new())).1.push(run.run_id);
            match item.outcome {
                ScrapeOutcome::Found(profile) => found.push((run, profile)),
                ScrapeOutcome::Private(_) => end(FailureCode::ProfilePrivate, run),
                ScrapeOutcome::NotFound => end(FailureCode::ProfileNotFound, run),
                ScrapeOutcome::Blocked => blocked.push(run),
            }
        }
        for (code, run_ids) in hopeless.into_values() {
            self.db.fail_pending(batch_id, &run_ids, code).await?;
        }
        if !blocked.is_empty() {
            // Forgotten, so that their own tasks start afresh instead of reading here that there is nothing.
            let run_ids: Vec<RunId> = blocked.iter().map(|run| run.run_id.clone()).collect();
            self.db.remember_group_scrape(batch_id, &run_ids, None, Some(&actor_run.id)).await?;
        }
        let scraped_at = actor_run.finished_at.unwrap_or_else(Timestamp::now);
        let keeps = stream::iter(found).map(async |(run, profile)| {
            if let Err(error) = self.profiles.put(&CachedProfile::new(profile, scraped_at)).await {
                tracing::warn!(%error, "profile not cached"); // its run reads it from the Actor run, which it remembers
            }
            self.start(&run).await
        });
        let (kept, others) = tokio::join!(keeps.buffer_unordered(AT_ONCE).collect::<Vec<_>>(), self.start_all(&blocked));
        kept.into_iter().collect::<Result<(), _>>().and(others)
    }

    /// Starts all of them, also after one that could not be.
    async fn start_all(&self, runs: &[Run]) -> Result<(), MessageError> {
        let starts = stream::iter(runs).map(|run| self.start(run)).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        starts.into_iter().collect()
    }

    async fn start(&self, run: &Run) -> Result<(), MessageError> {
        let accepted = StepTiming { step: Step::GenerateRunId, started_at_ms: run.requested_at_ms, duration_us: 0 };
        Ok(self.executions.start(run, &[accepted]).await?)
    }
}
