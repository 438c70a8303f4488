//! `Fetch`: steps 6 to 8.

use jiff::Timestamp;
use oslira_aws::profiles::Profiles;
use oslira_domain::Step;
use oslira_lambda::{Error, Init};
use oslira_vendors::Apify;
use serde_json::Value;

use crate::config::FetchConfig;
use crate::error::TaskError;
use crate::scrape::ProfileScraper;
use crate::state::{FetchInput, ProfileState};
use crate::task::{Deps, ensure_active, input, log_progress_error};
use crate::timing::Clock;

/// The clients of this task.
#[derive(Clone)]
pub struct FetchClients {
    profiles: Profiles,
    scraper: ProfileScraper,
}

impl FetchClients {
    /// Returns the clients that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(deps: &Deps, Init { config, aws, secrets }: Init<FetchConfig>) -> Result<Self, Error> {
        let profiles = Profiles::new(&aws, config.profile_bucket);
        let apify = Apify::new(oslira_vendors::http_client()?, config.apify_base_url, secrets.credential("apify"));
        Ok(Self { scraper: ProfileScraper::new(apify, deps.db.clone(), profiles.clone()), profiles })
    }
}

/// Returns where the profile is cached: an entry that is young and deep enough for the tier, or else one that is fetched through Apify now.
///
/// A retry looks into the cache again, because another run of the same handle may have fetched the profile meanwhile. It does not if an earlier
/// attempt started an Actor run: that one is paid for, so the retry waits for it and records it.
///
/// # Errors
/// Terminal with `PROFILE_NOT_FOUND`, `PROFILE_PRIVATE` or `PROFILE_RESTRICTED`, or for a run that has ended; retryable when another Actor run
/// may succeed.
pub async fn fetch(payload: Value, deps: Deps, clients: FetchClients) -> Result<ProfileState, TaskError> {
    let FetchInput { run, retry_count } = input(payload)?;
    let (clock, is_retry) = (Clock::start(Step::CheckCache), retry_count > 0);
    let (state, cached) = tokio::join!(deps.db.begin_task(&run.run_id), clients.profiles.latest(&run.username));
    let state = state?;
    ensure_active(state.as_ref().map(|state| (state.status, state.error_code)))?;
    let actor_run_id = state.and_then(|state| state.scrape_run_id);
    let is_resumed = is_retry && actor_run_id.is_some();
    let hit = if is_resumed { None } else { cached?.filter(|(entry, _)| entry.serves(run.tier, Timestamp::now())) };
    let (mut steps, now) = (vec![clock.stop()], Timestamp::now());
    if let Some((_, at)) = &hit {
        log_progress_error(deps.progress.advance(&run, Step::AnalyzeProfile, &steps, now).await);
        return Ok(ProfileState { hit: true, at: at.clone(), steps });
    }
    // The attempt that started the Actor run has written this.
    if !is_resumed {
        log_progress_error(deps.progress.advance(&run, Step::ScrapeProfile, &steps, now).await);
    }
    let scraped = Box::pin(clients.scraper.fetch(&deps, &run, actor_run_id)).await?;
    log_progress_error(deps.progress.advance(&run, Step::AnalyzeProfile, &scraped.steps, Timestamp::now()).await);
    steps.extend(scraped.steps);
    Ok(ProfileState { hit: false, at: scraped.at, steps })
}
