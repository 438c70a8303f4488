//! `CheckCache`: step 6.

use jiff::Timestamp;
use oslira_aws::lookups::Lookups;
use oslira_aws::profiles::Profiles;
use oslira_domain::Step;
use serde_json::Value;

use crate::error::TaskError;
use crate::state::{ProfileState, RunInput};
use crate::task::{Deps, input, shown, still_wanted};
use crate::timing::Clock;

/// Looks for a copy of the profile that is young and deep enough for the tier. Anything else is a miss.
///
/// # Errors
/// `Cancelled`; retryable ones.
pub async fn check_cache(payload: Value, deps: Deps, profiles: Profiles, lookups: Lookups) -> Result<ProfileState, TaskError> {
    let RunInput { run } = input(payload)?;
    let clock = Clock::start(Step::CheckCache);
    let (state, cached) = tokio::join!(deps.db.begin_task(&run.run_id), profiles.latest(&run.username));
    still_wanted(state?.map(|state| (state.status, state.error_code)))?;
    let hit = cached?.filter(|(entry, _)| entry.serves(run.tier, Timestamp::now()));
    let steps = vec![clock.stop()];
    let next = if hit.is_some() { Step::AnalyzeProfile } else { Step::ScrapeProfile };
    let now = Timestamp::now();
    let (advanced, counted) = tokio::join!(deps.progress.advance(&run, next, &steps, now), lookups.count(hit.is_some(), now));
    shown(advanced);
    if let Err(error) = counted {
        tracing::warn!(%error, "look into the cache not counted"); // statistics are a courtesy
    }
    Ok(ProfileState { hit: hit.is_some(), at: hit.map(|(_, at)| at), steps })
}
