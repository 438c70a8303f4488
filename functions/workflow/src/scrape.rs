//! `Scrape`: steps 7 and 8.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::profiles::{ProfileRef, Profiles};
use oslira_db::DbError;
use oslira_db::workflow::VendorCall;
use oslira_domain::cache::CachedProfile;
use oslira_domain::{FailureCode, MicroUsd, Profile, Run, Step, StepTiming};
use oslira_vendors::{ActorRun, ActorRunStatus, Apify, ScrapeOutcome, VendorError};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::error::TaskError;
use crate::state::{ProfileState, ScrapeInput};
use crate::task::{Deps, input, shown, still_wanted};
use crate::timing::Clock;

/// How long an Actor run may take before we give up on it. The task itself has a little more.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long one poll waits at Apify. Between polls we ask whether the run was cancelled.
const POLL: Duration = Duration::from_secs(2);

/// The secret `apify`.
#[derive(Deserialize)]
struct ApifySecret {
    token: SecretString,
}

/// The clients of this task.
#[derive(Clone)]
pub struct Scraper {
    apify: Apify,
    profiles: Profiles,
}

impl Scraper {
    /// Reads `APIFY_BASE_URL` and `PROFILE_BUCKET`.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env(deps: &Deps) -> Result<Self, lambda_runtime::Error> {
        let apify = Apify::new(oslira_vendors::http_client()?, oslira_aws::variable("APIFY_BASE_URL")?);
        Ok(Self { apify, profiles: Profiles::from_env(&deps.config)? })
    }
}

/// Fetches the profile through Apify and keeps it in the cache; only where it lies travels on.
///
/// The Actor run is remembered with the analysis as soon as it has started, so that a repeated task waits for it instead of paying for
/// another. A cancelled analysis aborts it. An Actor run is booked when its end is known: while Apify cannot be asked about it, its cost
/// stands on Apify's invoice only.
///
/// # Errors
/// `ProfileNotFound`, `ProfilePrivate`, `Cancelled`; `RetryableScrape` for everything that another Actor run may mend.
pub async fn scrape(payload: Value, deps: Deps, scraper: Scraper) -> Result<ProfileState, TaskError> {
    let ScrapeInput { run, profile } = input(payload)?;
    let clock = Clock::start(Step::ScrapeProfile);
    let (state, secret, ()) = tokio::join!(deps.db.begin_task(&run.run_id), deps.secrets.get::<ApifySecret>("apify", false), async {
        shown(deps.progress.advance(&run, Step::ScrapeProfile, &[], Timestamp::now()).await);
    });
    let state = state?;
    still_wanted(state.as_ref().map(|state| (state.status, state.error_code)))?;
    let mut remembered = state.and_then(|state| state.scrape_run_id);
    let mut steps = profile.steps;
    // Another run of the same handle, or a bulk group's scrape, may have fetched it since we looked. Asking again costs next to nothing
    // beside an Actor run.
    if remembered.is_none()
        && let Some(at) = fetched_meanwhile(&scraper, &run).await
    {
        let ended = [clock.stop()];
        steps.extend(ended);
        shown(deps.progress.advance(&run, Step::AnalyzeProfile, &ended, Timestamp::now()).await);
        return Ok(ProfileState { hit: true, at: Some(at), steps });
    }
    let mut token = secret?.token;

    let first = fetch(&deps, &scraper, &run, &token, &mut remembered).await;
    let fetched = match first {
        Err(Failure::Vendor(error)) if error.is_unauthorized() => {
            token = deps.secrets.get::<ApifySecret>("apify", true).await?.token; // rotated meanwhile
            fetch(&deps, &scraper, &run, &token, &mut remembered).await
        }
        other => other,
    };
    let (actor_run, profile_found) = fetched.map_err(TaskError::from)?;
    let fetching = clock.stop();
    let clock = Clock::start(Step::StoreProfile);
    let entry = CachedProfile::new(profile_found, actor_run.finished_at.unwrap_or_else(Timestamp::now));
    let calls = [booking(&actor_run, &fetching)];
    let (stored, booked, ()) = tokio::join!(scraper.profiles.put(&entry), deps.db.record_vendor_calls(&run.run_id, &calls, None), async {
        shown(deps.progress.advance(&run, Step::StoreProfile, &[fetching], Timestamp::now()).await);
    });
    booked?;
    let at = stored?;
    let ended = [fetching, clock.stop()];
    steps.extend(ended);
    shown(deps.progress.advance(&run, Step::AnalyzeProfile, &ended, Timestamp::now()).await);
    Ok(ProfileState { hit: false, at: Some(at), steps })
}

/// Where the profile lies, if the cache holds one by now that the tier may use.
async fn fetched_meanwhile(scraper: &Scraper, run: &Run) -> Option<ProfileRef> {
    let found = scraper.profiles.latest(&run.username).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cache not asked again");
        None
    });
    found.filter(|(entry, _)| entry.serves(run.tier, Timestamp::now())).map(|(_, at)| at)
}

/// What keeps a profile from being fetched.
enum Failure {
    /// The vendor's part.
    Vendor(VendorError),
    /// Everything else.
    Task(TaskError),
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Vendor(error) => error.into(),
            Failure::Task(error) => error,
        }
    }
}

impl From<VendorError> for Failure {
    fn from(error: VendorError) -> Self {
        Self::Vendor(error)
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Task(error.into())
    }
}

/// Waits for the analysis's Actor run, starting and remembering one if there is none, and reads the profile out of it.
async fn fetch(
    deps: &Deps,
    scraper: &Scraper,
    run: &Run,
    token: &SecretString,
    remembered: &mut Option<String>,
) -> Result<(ActorRun, Profile), Failure> {
    let id = match remembered {
        Some(id) => id.clone(),
        None => remembered.insert(start(deps, scraper, run, token).await?).clone(),
    };
    let clock = Clock::start(Step::ScrapeProfile);
    let actor_run = wait(deps, scraper, run, token, &id).await?;
    let why = match actor_run.status {
        ActorRunStatus::Succeeded => {
            let items = scraper.apify.items(token, &actor_run, std::slice::from_ref(&run.username)).await?;
            match items.into_iter().find(|item| item.username == run.username).map(|item| item.outcome) {
                Some(ScrapeOutcome::Found(profile)) => return Ok((actor_run, profile)),
                Some(ScrapeOutcome::Private(_)) => Err(FailureCode::ProfilePrivate),
                Some(ScrapeOutcome::NotFound) => Err(FailureCode::ProfileNotFound),
                Some(ScrapeOutcome::Blocked) | None => Ok("Instagram blocked the visit"),
            }
        }
        ActorRunStatus::Running => Ok("the Actor run took too long"),
        ActorRunStatus::Failed => Ok("the Actor run failed"),
        ActorRunStatus::TimedOut => Ok("the Actor run timed out"),
        ActorRunStatus::Aborted => Ok("the Actor run was aborted"),
    };
    // It was paid for, whatever came of it. The next attempt needs an Actor run of its own.
    deps.db.record_vendor_calls(&run.run_id, &[booking(&actor_run, &clock.stop())], None).await?;
    match why {
        Err(code) => Err(TaskError::Final(code).into()),
        Ok(why) => {
            deps.db.record_scrape_run(&run.run_id, None, Some(&actor_run.id)).await?;
            Err(TaskError::Scrape(why.to_owned()).into())
        }
    }
}

/// Starts an Actor run and remembers it. If a twin of this task was faster, ours is aborted and the twin's counts.
async fn start(deps: &Deps, scraper: &Scraper, run: &Run, token: &SecretString) -> Result<String, Failure> {
    let clock = Clock::start(Step::ScrapeProfile);
    let started = match scraper.apify.start(token, std::slice::from_ref(&run.username)).await {
        Ok(started) => started,
        Err(error) => {
            if Apify::may_have_started(&error) {
                // Perhaps it runs and costs something: nobody knows which or how much, but the run's costs show that it was tried.
                deps.db.record_vendor_calls(&run.run_id, &[unanswered(&clock.stop())], None).await?;
            }
            return Err(error.into());
        }
    };
    let wanted = match deps.db.record_scrape_run(&run.run_id, Some(&started.id), None).await {
        Ok(wanted) => wanted,
        Err(error) => {
            // Nobody will find it again.
            abort(deps, scraper, run, token, &started.id).await;
            return Err(error.into());
        }
    };
    if wanted.as_ref() != Some(&started.id) {
        abort(deps, scraper, run, token, &started.id).await;
    }
    if let Some(id) = wanted {
        return Ok(id);
    }
    let state = deps.db.begin_task(&run.run_id).await?;
    still_wanted(state.map(|state| (state.status, state.error_code)))?;
    Err(TaskError::Scrape("the Actor run could not be remembered".to_owned()).into())
}

/// Polls until the Actor run ends or patience does. Asks between polls whether the analysis is still wanted.
async fn wait(deps: &Deps, scraper: &Scraper, run: &Run, token: &SecretString, id: &str) -> Result<ActorRun, Failure> {
    let started = Instant::now();
    loop {
        let actor_run = scraper.apify.wait(token, id, POLL).await?;
        if actor_run.status != ActorRunStatus::Running {
            return Ok(actor_run);
        }
        let state = deps.db.begin_task(&run.run_id).await?;
        let wanted = still_wanted(state.map(|state| (state.status, state.error_code)));
        if wanted.is_err() || started.elapsed() > PATIENCE {
            abort(deps, scraper, run, token, id).await;
            wanted?;
            return Ok(actor_run);
        }
    }
}

/// Stops paying for an Actor run, and books what it has cost so far. If that fails it ends by itself, within its own time limit.
async fn abort(deps: &Deps, scraper: &Scraper, run: &Run, token: &SecretString, id: &str) {
    let clock = Clock::start(Step::ScrapeProfile);
    match scraper.apify.abort(token, id).await {
        Ok(aborted) => {
            if let Err(error) = deps.db.record_vendor_calls(&run.run_id, &[booking(&aborted, &clock.stop())], None).await {
                tracing::warn!(%error, "aborted Actor run not booked");
            }
        }
        Err(error) => tracing::warn!(%error, "Actor run not aborted"),
    }
}

/// A start without an answer.
fn unanswered(timing: &StepTiming) -> VendorCall {
    let nobody = ActorRun {
        id: String::new(),
        dataset_id: String::new(),
        status: ActorRunStatus::TimedOut,
        cost: MicroUsd::ZERO,
        finished_at: None,
    };
    let error_message = Some("no answer to the start: the Actor may run".to_owned());
    VendorCall { response_id: None, error_message, ..booking(&nobody, timing) }
}

fn booking(actor_run: &ActorRun, timing: &StepTiming) -> VendorCall {
    let status = actor_run.status.booked_as();
    VendorCall::scrape(&actor_run.id, status, actor_run.cost, timing.started_at_ms, timing.duration_us / 1000)
}
