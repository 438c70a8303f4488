//! `GET /api/cache/statistics`

use jiff::Timestamp;
use oslira_aws::limits::GENERAL;
use oslira_aws::lookups::Lookups;
use oslira_aws::profiles::Profiles;
use oslira_db::UserDb;
use oslira_domain::Tier;
use oslira_domain::cache::{Census, Freshness};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint};
use schemars::JsonSchema;
use serde::Serialize;

/// How many pages of a thousand entries are counted. For a larger cache, the response says that it is incomplete.
const PAGES: usize = 10;

/// A value for each tier.
#[derive(Debug, Serialize, JsonSchema)]
struct ByTier<T> {
    light: T,
    deep: T,
    xray: T,
}

impl<T> ByTier<T> {
    fn of(value: impl Fn(Tier) -> T) -> Self {
        Self { light: value(Tier::Light), deep: value(Tier::Deep), xray: value(Tier::Xray) }
    }
}

/// Statistics of the cache. Only counts and sums: which profiles are cached is private to the accounts that analyzed them.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CacheStatistics")]
struct View {
    cache_statistics: Contents,
    ttl_config: ByTier<String>,
    invalidation_triggers: [&'static str; 5],
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CacheContents")]
struct Contents {
    /// All entries, including those that are too old for every tier. Entries are kept for a week.
    total_cached: u64,
    /// The entries that are young enough for each tier.
    by_type: ByTier<u64>,
    avg_age_seconds: u64,
    avg_age_seconds_by_type: ByTier<u64>,
    total_bytes: u64,
    /// The share of the last day's look-ups that were hits, from 0 to 1. `None` without look-ups.
    hit_rate: Option<f64>,
    hits: u64,
    misses: u64,
    /// Whether there are more entries than were counted.
    truncated: bool,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).limited(&[GENERAL]).responds::<View>(200).requires_account().end();
}

/// Returns statistics of the profile cache: the number and age of its entries, and its hit rate. They cover all tenants.
///
/// At most 10,000 entries are counted. The counts are approximate.
#[endpoint(GET, "/api/cache/statistics")]
pub async fn cache_statistics(request: Request, db: UserDb, profiles: Profiles, lookups: Lookups) -> Result<Reply, Problem> {
    let (caller, now) = (&request.caller, Timestamp::now());
    db.caller_account(&caller.claims(), caller.requested_account).await?.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    let (census, counted) = tokio::join!(profiles.census(now, PAGES), lookups.last_day(now));
    let ((census, complete), counted) = (census?, counted?);
    let Census { all, bytes, .. } = census;
    let looks = counted.hits + counted.misses;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 looks a day")]
    let hit_rate = (looks > 0).then(|| (counted.hits as f64 / looks as f64 * 10_000.0).round() / 10_000.0);
    Reply::ok(&View {
        cache_statistics: Contents {
            total_cached: all.count,
            by_type: ByTier::of(|tier| census.fresh_for(tier).count),
            avg_age_seconds: all.avg_age_seconds(),
            avg_age_seconds_by_type: ByTier::of(|tier| Freshness::avg_age_seconds(&census.fresh_for(tier))),
            total_bytes: bytes,
            hit_rate,
            hits: counted.hits,
            misses: counted.misses,
            truncated: !complete,
        },
        ttl_config: ByTier::of(|tier| format!("{} hours", tier.max_profile_age().as_secs() / 3600)),
        invalidation_triggers: [
            "the number of followers changed by more than 10 %",
            "the bio is less than 70 % the same",
            "a private profile became public, or the reverse",
            "the profile was verified, or is no longer",
            "force-refresh",
        ],
    })
}
