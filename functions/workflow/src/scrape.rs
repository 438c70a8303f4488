//! `Scrape`: steps 7 and 8.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::profiles::{ProfileRef, Profiles};
use oslira_domain::cache::CachedProfile;
use oslira_domain::{FailureCode, Run, Step};
use oslira_scraping::{Limits, Owner, ScrapeError};
use oslira_vendors::{Apify, ScrapeOutcome};
use serde_json::Value;

use crate::error::TaskError;
use crate::state::{ProfileState, ScrapeInput};
use crate::task::{Deps, input, shown, still_wanted};
use crate::timing::Clock;

/// How long an Actor run may take before it is aborted.
const MAX_WAIT: Duration = Duration::from_mins(2);
/// How long aborting it, or reading its items, may take beyond that.
const READ_TIME: Duration = Duration::from_secs(30);
/// How long one poll waits at Apify.
const POLL: Duration = Duration::from_secs(2);

/// The clients of this task.
#[derive(Clone)]
pub struct Scraper {
    scraper: oslira_scraping::Scraper,
    profiles: Profiles,
}

impl Scraper {
    /// Reads `APIFY_BASE_URL` and `PROFILE_BUCKET`.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env(deps: &Deps) -> Result<Self, lambda_runtime::Error> {
        let base_url = oslira_aws::variable("APIFY_BASE_URL")?;
        let apify = Apify::new(oslira_vendors::http_client()?, base_url, deps.secrets.credential("apify"));
        Ok(Self { scraper: oslira_scraping::Scraper::new(apify, deps.db.clone()), profiles: Profiles::from_env(&deps.config)? })
    }
}

/// Fetches the profile through Apify and stores it in the cache. Only its location is passed on.
///
/// The Actor run is remembered with the run, so that a repeated task waits for it instead of paying for another. A cancelled run aborts it.
///
/// # Errors
/// `ProfileNotFound`, `ProfilePrivate`, `Cancelled`; `RetryableScrape` when another Actor run may succeed.
pub async fn scrape(payload: Value, deps: Deps, clients: Scraper) -> Result<ProfileState, TaskError> {
    let ScrapeInput { run, profile } = input(payload)?;
    let clock = Clock::start(Step::ScrapeProfile);
    let (state, (), ()) = tokio::join!(deps.db.begin_task(&run.run_id), clients.scraper.prepare(), async {
        shown(deps.progress.advance(&run, Step::ScrapeProfile, &[], Timestamp::now()).await);
    });
    let state = state?;
    still_wanted(state.as_ref().map(|state| (state.status, state.error_code)))?;
    let remembered = state.and_then(|state| state.scrape_run_id);
    let mut steps = profile.steps;
    // Another run of the same handle, or a bulk group, may have fetched the profile since the cache look-up. A second look-up costs little
    // compared with an Actor run.
    if remembered.is_none()
        && let Some(at) = fetched_meanwhile(&clients, &run).await
    {
        let ended = [clock.stop()];
        steps.extend(ended);
        shown(deps.progress.advance(&run, Step::AnalyzeProfile, &ended, Timestamp::now()).await);
        return Ok(ProfileState { hit: true, at: Some(at), steps });
    }

    let owner = Owner::Run(&run.run_id);
    let limits = Limits { poll: POLL, deadline: Instant::now() + MAX_WAIT, grace: READ_TIME, busy: Duration::ZERO };
    let handle = std::slice::from_ref(&run.username);
    let scraped = match Box::pin(clients.scraper.scrape(&owner, handle, remembered, &limits)).await {
        Ok(scraped) => scraped,
        Err(ScrapeError::NotNeeded) => {
            let state = deps.db.begin_task(&run.run_id).await?;
            still_wanted(state.map(|state| (state.status, state.error_code)))?;
            return Err(TaskError::Scrape("the Actor run could not be remembered".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let found = match scraped.items.into_iter().next().map(|item| item.outcome) {
        Some(ScrapeOutcome::Found(profile)) => profile,
        Some(ScrapeOutcome::Private(_)) => return Err(TaskError::Final(FailureCode::ProfilePrivate)),
        Some(ScrapeOutcome::NotFound) => return Err(TaskError::Final(FailureCode::ProfileNotFound)),
        Some(ScrapeOutcome::Blocked) | None => {
            clients.scraper.forget(&owner, &scraped.actor_run).await?;
            return Err(TaskError::Scrape("Instagram blocked the Actor".to_owned()));
        }
    };
    let fetching = clock.stop();
    let clock = Clock::start(Step::StoreProfile);
    let entry = CachedProfile::new(found, scraped.actor_run.finished_at.unwrap_or_else(Timestamp::now));
    let (stored, ()) = tokio::join!(clients.profiles.put(&entry), async {
        shown(deps.progress.advance(&run, Step::StoreProfile, &[fetching], Timestamp::now()).await);
    });
    let at = stored?;
    let ended = [fetching, clock.stop()];
    steps.extend(ended);
    shown(deps.progress.advance(&run, Step::AnalyzeProfile, &ended, Timestamp::now()).await);
    Ok(ProfileState { hit: false, at: Some(at), steps })
}

/// Returns the location of the profile, if the cache now has an entry that serves the tier.
async fn fetched_meanwhile(clients: &Scraper, run: &Run) -> Option<ProfileRef> {
    let found = clients.profiles.latest(&run.username).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "second cache look-up failed");
        None
    });
    found.filter(|(entry, _)| entry.serves(run.tier, Timestamp::now())).map(|(_, at)| at)
}
