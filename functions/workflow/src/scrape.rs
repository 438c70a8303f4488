//! Steps 7 and 8, within `Fetch`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::profiles::{ProfileRef, Profiles};
use oslira_db::AdminDb;
use oslira_domain::cache::CachedProfile;
use oslira_domain::{FailureCode, Run, Step, StepTiming};
use oslira_scraping::{Limits, Owner, ScrapeError, Scraper};
use oslira_vendors::{Apify, ScrapeOutcome};

use crate::error::TaskError;
use crate::task::{Deps, ensure_active, log_progress_error};
use crate::timing::Clock;

/// How long an Actor run may take before it is aborted.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// How long aborting it, or reading its items, may take beyond that.
const READ_TIME: Duration = Duration::from_secs(30);
/// How long one poll waits at Apify.
const POLL: Duration = Duration::from_secs(2);

/// The clients of these steps.
#[derive(Clone)]
pub struct ProfileScraper {
    scraper: Scraper,
    profiles: Profiles,
}

impl ProfileScraper {
    pub(crate) fn new(apify: Apify, db: AdminDb, profiles: Profiles) -> Self {
        Self { scraper: Scraper::new(apify, db), profiles }
    }
}

/// A profile that was fetched and stored.
pub(crate) struct StoredProfile {
    /// The cache entry.
    pub(crate) at: ProfileRef,
    /// Steps 7 and 8.
    pub(crate) steps: [StepTiming; 2],
}

impl ProfileScraper {
    /// Fetches the profile through Apify and stores it in the cache.
    ///
    /// The Actor run is recorded with the run, so that a repeated task waits for it (`actor_run_id`) instead of paying for another. A cancelled run
    /// aborts it.
    ///
    /// # Errors
    /// Terminal with `PROFILE_NOT_FOUND`, `PROFILE_PRIVATE` or `PROFILE_RESTRICTED`, with `SCRAPE_FAILED` if the posts are missing again, or for a
    /// run that has ended; [`TaskError::Scrape`] when another Actor run may succeed.
    pub(crate) async fn fetch(&self, deps: &Deps, run: &Run, actor_run_id: Option<String>) -> Result<StoredProfile, TaskError> {
        let clock = Clock::start(Step::ScrapeProfile);
        let owner = Owner::Run(&run.run_id);
        let limits = Limits { poll: POLL, deadline: Instant::now() + MAX_WAIT, grace: READ_TIME, busy: Duration::ZERO };
        let handle = std::slice::from_ref(&run.username);
        let scraped = match Box::pin(self.scraper.scrape(&owner, handle, actor_run_id, &limits)).await {
            Ok(scraped) => scraped,
            Err(ScrapeError::NotNeeded) => {
                let state = deps.db.begin_task(&run.run_id).await?;
                ensure_active(state.map(|state| (state.status, state.error_code)))?;
                return Err(TaskError::Scrape("the Actor run could not be recorded".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let found = match scraped.items.into_iter().next().map(|item| item.outcome) {
            Some(ScrapeOutcome::Found(profile)) => profile,
            Some(ScrapeOutcome::Private(_)) => return Err(TaskError::Terminal(FailureCode::ProfilePrivate)),
            Some(ScrapeOutcome::NotFound) => return Err(TaskError::Terminal(FailureCode::ProfileNotFound)),
            Some(ScrapeOutcome::Restricted) => return Err(TaskError::Terminal(FailureCode::ProfileRestricted)),
            Some(ScrapeOutcome::WithoutPosts) => {
                self.scraper.forget(&owner, &scraped.actor_run).await?;
                return Err(TaskError::WithoutPosts);
            }
            Some(ScrapeOutcome::Blocked) | None => {
                self.scraper.forget(&owner, &scraped.actor_run).await?;
                return Err(TaskError::Scrape("Instagram blocked the Actor".to_owned()));
            }
        };
        let fetching = clock.stop();
        let clock = Clock::start(Step::StoreProfile);
        let entry = CachedProfile::new(found, scraped.actor_run.finished_at.unwrap_or_else(Timestamp::now));
        let (stored, ()) = tokio::join!(self.profiles.put(&entry), async {
            log_progress_error(deps.progress.advance(run, Step::StoreProfile, &[fetching], Timestamp::now()).await);
        });
        Ok(StoredProfile { at: stored?, steps: [fetching, clock.stop()] })
    }
}
