//! `GET /api/cache/statistics`

use oslira_aws::limits::GENERAL;
use oslira_db::UserDb;
use oslira_db::cache::{CacheUse, FetchedProfiles};
use oslira_domain::Tier;
use oslira_domain::cache::LIFETIME;
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint};
use schemars::JsonSchema;
use serde::Serialize;

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

/// Statistics of the profile cache.
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
    /// The profiles that the account's analyses fetched within a week, which is how long entries are kept.
    total_cached: u64,
    /// Those that are young enough for each tier.
    by_type: ByTier<u64>,
    /// The mean time since they were fetched.
    avg_age_seconds: u64,
    avg_age_seconds_by_type: ByTier<u64>,
    /// The share of the last day's analyses that found a profile of an earlier one, from 0 to 1. `None` without analyses.
    hit_rate: Option<f64>,
    hits: u64,
    misses: u64,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).limited(&[GENERAL]).responds::<View>(200).requires_account().end();
}

/// Returns what the account's analyses have put into the profile cache and found in it: the number and age of the profiles, and the hit rate.
///
/// All accounts share the cache. What others have put into it is not counted, so an entry may be younger than stated, or dropped.
#[endpoint(GET, "/api/cache/statistics")]
pub async fn cache_statistics(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let caller = &request.caller;
    let ages = [LIFETIME, Tier::Light.max_profile_age(), Tier::Deep.max_profile_age(), Tier::Xray.max_profile_age()];
    let used = db.cache_use(&caller.claims(), caller.requested_account, &ages).await?;
    let CacheUse { hits, misses, within } = used.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    let [all, light, deep, xray]: [FetchedProfiles; 4] = within.try_into().map_err(|_| Problem::internal("not one count for each age"))?;
    let looks = hits + misses;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 looks a day")]
    let hit_rate = (looks > 0).then(|| (hits as f64 / looks as f64 * 10_000.0).round() / 10_000.0);
    Reply::ok(&View {
        cache_statistics: Contents {
            total_cached: all.count,
            by_type: ByTier { light: light.count, deep: deep.count, xray: xray.count },
            avg_age_seconds: all.avg_age_seconds,
            avg_age_seconds_by_type: ByTier { light: light.avg_age_seconds, deep: deep.avg_age_seconds, xray: xray.avg_age_seconds },
            hit_rate,
            hits,
            misses,
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
