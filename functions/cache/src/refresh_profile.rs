//! The scrape behind `refresh-check`.
//!
//! A function of its own, which only that endpoint may invoke, because it does what no endpoint for users may: it holds the key of Apify,
//! writes the cache that all tenants share, and books costs with the backend's own login. A database function for users would be open to
//! everybody through Supabase's Data API, who could then book what they like; a queue would need a consumer with the same rights, and lose
//! costs while it is down. The endpoint keeps what endpoints have: the caller's own view of the database.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::AwsError;
use oslira_aws::profiles::Profiles;
use oslira_aws::secrets::Secrets;
use oslira_db::AdminDb;
use oslira_db::workflow::VendorCall;
use oslira_domain::cache::{CachedProfile, Snapshot, VERSION};
use oslira_domain::{AccountId, MicroUsd, Tier, Username};
use oslira_lambda::{Error, Event, Init};
use oslira_vendors::{ActorRun, ActorRunStatus, Apify, ScrapeOutcome, VendorError};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::config::RefreshProfileConfig;

/// How long fetching a profile may take, the looks into the cache and at the key included. Most take 6 to 9 seconds; the endpoint has to
/// answer within 29.
const PATIENCE: Duration = Duration::from_secs(19);
/// How long stopping an Actor run may take: it ends by itself otherwise.
const STOPPING: Duration = Duration::from_secs(2);

/// Whose request it is, and which profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefreshProfile {
    /// Who asks: the scrape is booked with this account.
    pub(crate) account_id: AccountId,
    /// The handle.
    pub(crate) username: Username,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Refreshed {
    /// The profile was fetched, and is what the cache holds now.
    Fetched {
        /// What the cache held before, however old.
        before: Option<Snapshot>,
        /// How good that was.
        cache: CacheState,
        /// The profile now.
        now: Snapshot,
    },
    /// Instagram knows no such profile (any more); the cache has forgotten it too.
    NotFound,
    /// Instagram showed nothing this time.
    Blocked,
    /// Apify could not fetch it.
    Failed,
    /// Apify had not fetched it in time, and was told to stop.
    TimedOut,
}

/// What the cache knew of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// Young enough for some tier.
    Fresh,
    /// Too old for every tier.
    Stale,
    /// Nothing that could be read.
    Missing,
}

/// The dependencies of the function.
pub struct ProfileRefresher {
    db: AdminDb,
    secrets: Secrets,
    apify: Apify,
    profiles: Profiles,
}

/// The secret `apify`.
#[derive(Deserialize)]
struct ApifySecret {
    token: SecretString,
}

/// Why a visit brought nothing.
enum Failure {
    Vendor(VendorError),
    Aws(AwsError),
}

impl ProfileRefresher {
    /// Returns the dependencies that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(init: Init<RefreshProfileConfig>) -> Result<Self, Error> {
        let db = init.admin_db();
        let Init { config, aws, secrets } = init;
        Ok(Self {
            db,
            apify: Apify::new(oslira_vendors::http_client()?, config.apify_base_url),
            profiles: Profiles::new(&aws, config.profile_bucket),
            secrets,
        })
    }

    async fn token(&self, refresh: bool) -> Result<SecretString, AwsError> {
        Ok(self.secrets.get::<ApifySecret>("apify", refresh).await?.token)
    }

    /// Has one profile fetched. The Actor run is in `run` from its start on, whatever happens then. `None` if it did not succeed.
    async fn visit(
        &self,
        token: &SecretString,
        username: &Username,
        run: &mut Option<ActorRun>,
    ) -> Result<Option<ScrapeOutcome>, VendorError> {
        let asked = std::slice::from_ref(username);
        let id = run.insert(self.apify.start(token, asked).await?).id.clone();
        let ended = run.insert(self.apify.wait(token, &id, PATIENCE).await?);
        if ended.status != ActorRunStatus::Succeeded {
            return Ok(None);
        }
        let items = self.apify.items(token, ended, asked).await?;
        Ok(items.into_iter().next().map(|item| item.outcome))
    }

    /// The same with the token that we know and, if that is refused, with the one that has replaced it.
    async fn fetch(&self, username: &Username, run: &mut Option<ActorRun>) -> Result<Option<ScrapeOutcome>, Failure> {
        let visited = self.visit(&self.token(false).await.map_err(Failure::Aws)?, username, run).await;
        let visited = match visited {
            Err(VendorError::Unauthorized) if run.is_none() => {
                self.visit(&self.token(true).await.map_err(Failure::Aws)?, username, run).await
            }
            visited => visited,
        };
        visited.map_err(Failure::Vendor)
    }

    /// Stops paying for a run that nobody waits for any more. Answers it with what it has cost.
    async fn stop(&self, run: ActorRun) -> ActorRun {
        let stopped = timeout(STOPPING, async { self.apify.abort(&self.token(false).await.ok()?, &run.id).await.ok() }).await;
        stopped.ok().flatten().unwrap_or_else(|| {
            tracing::warn!("Actor run not aborted");
            run
        })
    }
}

/// Fetches a profile as it is now, books what that cost, whatever came of it, and keeps it in place of the entry that was cached.
///
/// A scrape that takes too long is aborted rather than remembered: whoever asks again gets another one.
///
/// # Errors
/// When the cache or the database does not answer.
pub async fn refresh_profile(event: Event<RefreshProfile>, refresher: &ProfileRefresher) -> Result<Refreshed, Error> {
    let RefreshProfile { account_id, username } = event.payload;
    tracing::Span::current().record("account_id", account_id.to_string());
    let begun = Instant::now();
    let cached = refresher.profiles.latest(&username).await?.map(|(entry, _)| entry).filter(|entry| entry.version == VERSION);
    let started_at = Timestamp::now();
    let mut run = None;
    let visited = timeout(PATIENCE.saturating_sub(begun.elapsed()), refresher.fetch(&username, &mut run)).await;
    let at_work = run.as_ref().is_some_and(|run| !run.status.is_terminal());
    let run = match run {
        Some(run) if at_work => Some(refresher.stop(run).await),
        run => run,
    };
    // After a start without an answer the Actor may run all the same.
    let unanswered = matches!(visited, Err(_) | Ok(Err(Failure::Vendor(VendorError::Timeout | VendorError::Transport(_)))));
    let call = booking(run.as_ref(), unanswered, started_at);
    let booked = async {
        match &call {
            Some(call) => refresher.db.record_account_call(account_id, call).await,
            None => Ok(()),
        }
    };
    let kept = async {
        match visited {
            Ok(Ok(Some(ScrapeOutcome::Found(profile) | ScrapeOutcome::Private(profile)))) => {
                let scraped_at = run.as_ref().and_then(|run| run.finished_at).unwrap_or_else(Timestamp::now);
                let entry = CachedProfile::new(profile, scraped_at);
                refresher.profiles.put(&entry).await?;
                Ok(fetched(cached.as_ref(), &entry, started_at))
            }
            Ok(Ok(Some(ScrapeOutcome::NotFound))) => refresher.profiles.drop_entry(&username).await.map(|()| Refreshed::NotFound),
            Ok(Ok(Some(ScrapeOutcome::Blocked))) => Ok(Refreshed::Blocked),
            Ok(Ok(None)) if !at_work => Ok(Refreshed::Failed),
            Ok(Ok(None)) | Err(_) => Ok(Refreshed::TimedOut),
            Ok(Err(Failure::Aws(error))) => Err(error),
            Ok(Err(Failure::Vendor(error))) => {
                if error.is_retryable() {
                    tracing::warn!(%error, "profile not fetched");
                } else {
                    tracing::error!(%error, "scraping is not possible");
                }
                Ok(Refreshed::Failed)
            }
        }
    };
    let (booked, kept) = tokio::join!(booked, kept);
    if let (Err(error), Some(call)) = (&booked, &call) {
        tracing::error!(%error, actor_run = call.response_id, cost_micro_usd = call.cost_micro_usd.0, "scrape not booked");
    }
    booked?;
    Ok(kept?)
}

/// What to book of a visit. `unanswered` says that an Actor run may exist of which we know nothing: its costs are on Apify's bill then, and
/// the row says why.
fn booking(run: Option<&ActorRun>, unanswered: bool, started_at: Timestamp) -> Option<VendorCall> {
    let duration_ms = i64::try_from(Timestamp::now().duration_since(started_at).as_millis()).unwrap_or(i64::MAX);
    let call = |id: &str, status, cost| VendorCall::scrape(id, status, cost, started_at.as_millisecond(), duration_ms);
    match run {
        Some(run) => Some(call(&run.id, run.status.booked_as(), run.cost)),
        None => unanswered.then(|| VendorCall {
            response_id: None,
            error_message: Some("no answer to the start: the Actor may run".to_owned()),
            ..call("", "timeout", MicroUsd::ZERO)
        }),
    }
}

fn fetched(cached: Option<&CachedProfile>, entry: &CachedProfile, now: Timestamp) -> Refreshed {
    let cache = match cached {
        None => CacheState::Missing,
        Some(cached) if cached.is_current(Tier::Light.max_profile_age(), now) => CacheState::Fresh,
        Some(_) => CacheState::Stale,
    };
    Refreshed::Fetched { before: cached.map(|cached| Snapshot::from(&cached.profile)), cache, now: Snapshot::from(&entry.profile) }
}
