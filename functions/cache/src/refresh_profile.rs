//! The scrape behind `refresh-check`.
//!
//! It is a separate function, which only that endpoint may invoke, because it does what no endpoint for users may: it has Apify's token,
//! writes the cache that all tenants share, and records costs with the backend's own login. A database function for users would be open to
//! every signed-in user through Supabase's Data API. A queue would need a consumer with the same rights, and would lose costs while it is
//! down. The endpoint keeps what endpoints have: the caller's own view of the database.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::profiles::Profiles;
use oslira_domain::cache::{CachedProfile, Snapshot, VERSION};
use oslira_domain::{AccountId, Tier, Username};
use oslira_lambda::{Error, Event, Init};
use oslira_scraping::{Limits, Owner, ScrapeError, Scraper};
use oslira_vendors::{Apify, ScrapeOutcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::RefreshProfileConfig;

/// How long fetching a profile may take, the cache look-up included. Most take 6 to 9 seconds; the endpoint has to respond within 29.
const MAX_WAIT: Duration = Duration::from_secs(19);
/// How long aborting an Actor run may take. One that is not aborted ends by itself.
const ABORT_TIME: Duration = Duration::from_secs(2);

/// The input of the function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefreshProfile {
    /// The account that requests the scrape. Its cost is recorded there.
    pub(crate) account_id: AccountId,
    /// The handle.
    pub(crate) username: Username,
}

/// The outcome of a scrape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Refreshed {
    /// The profile was fetched and cached.
    Fetched {
        /// What the cache had before, however old.
        before: Option<Snapshot>,
        /// The state of that entry.
        cache: CacheState,
        /// The profile now.
        now: Snapshot,
    },
    /// Instagram has no such profile. Its cache entry was removed.
    NotFound,
    /// Instagram shows the profile only to some of its users. A cache entry stays.
    Restricted,
    /// Instagram returned nothing, or not the posts, this time. A cache entry stays.
    Blocked,
    /// Apify could not fetch it.
    Failed,
    /// Apify did not fetch it in time. The Actor run was aborted.
    TimedOut,
}

/// The state of a cache entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheState {
    /// Absent or unreadable.
    Missing,
    /// Too old for every tier.
    Stale,
    /// Young enough for some tier.
    Fresh,
}

/// The dependencies of the function.
pub struct ProfileRefresher {
    scraper: Scraper,
    profiles: Profiles,
}

impl ProfileRefresher {
    /// Returns the dependencies that the configuration names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(init: Init<RefreshProfileConfig>) -> Result<Self, Error> {
        let db = init.admin_db();
        let Init { config, aws, secrets } = init;
        let apify = Apify::new(oslira_vendors::http_client()?, config.apify_base_url, secrets.credential("apify"));
        Ok(Self { scraper: Scraper::new(apify, db), profiles: Profiles::new(&aws, config.profile_bucket) })
    }
}

/// Fetches a profile and caches it in the place of the existing entry. Records the cost of the Actor run, whatever it found.
///
/// An Actor run that takes too long is aborted rather than remembered: a repeated request starts another.
///
/// # Errors
/// Fails when the cache or the database is unavailable.
pub async fn refresh_profile(event: Event<RefreshProfile>, refresher: &ProfileRefresher) -> Result<Refreshed, Error> {
    let RefreshProfile { account_id, username } = event.payload;
    tracing::Span::current().record("account_id", account_id.to_string());
    let (started_at, deadline) = (Timestamp::now(), Instant::now() + MAX_WAIT);
    let (cached, ()) = tokio::join!(refresher.profiles.latest(&username), refresher.scraper.prepare());
    let cached = cached?.map(|(entry, _)| entry).filter(|entry| entry.version == VERSION);
    let limits = Limits { poll: MAX_WAIT, deadline, grace: ABORT_TIME, busy: Duration::ZERO };
    let handle = std::slice::from_ref(&username);
    let scraped = match Box::pin(refresher.scraper.scrape(&Owner::Account(account_id), handle, None, &limits)).await {
        Ok(scraped) => scraped,
        Err(ScrapeError::Deadline) => return Ok(Refreshed::TimedOut),
        Err(ScrapeError::Database(error)) => return Err(error.into()),
        Err(ScrapeError::Vendor(error)) if !error.is_retryable() => {
            tracing::error!(%error, "Apify rejects the request");
            return Ok(Refreshed::Failed);
        }
        Err(error) => {
            tracing::warn!(%error, "profile not fetched");
            return Ok(Refreshed::Failed);
        }
    };
    Ok(match scraped.items.into_iter().next().map(|item| item.outcome) {
        Some(ScrapeOutcome::Found(profile) | ScrapeOutcome::Private(profile)) => {
            let entry = CachedProfile::new(profile, scraped.actor_run.finished_at.unwrap_or_else(Timestamp::now));
            refresher.profiles.put(&entry).await?;
            fetched(cached.as_ref(), &entry, started_at)
        }
        Some(ScrapeOutcome::NotFound) => {
            refresher.profiles.drop_entry(&username).await?;
            Refreshed::NotFound
        }
        Some(ScrapeOutcome::Restricted) => Refreshed::Restricted,
        // An entry without its posts would serve analyses, so that it is not stored.
        Some(ScrapeOutcome::WithoutPosts | ScrapeOutcome::Blocked) | None => Refreshed::Blocked,
    })
}

fn fetched(cached: Option<&CachedProfile>, entry: &CachedProfile, now: Timestamp) -> Refreshed {
    let cache = match cached {
        None => CacheState::Missing,
        Some(cached) if cached.is_current(Tier::Light.max_profile_age(), now) => CacheState::Fresh,
        Some(_) => CacheState::Stale,
    };
    Refreshed::Fetched { before: cached.map(|cached| Snapshot::from(&cached.profile)), cache, now: Snapshot::from(&entry.profile) }
}
