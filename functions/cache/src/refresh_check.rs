//! `POST /api/leads/{leadId}/refresh-check`

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use oslira_aws::functions::Function;
use oslira_aws::limits::REFRESH_CHECKS;
use oslira_db::UserDb;
use oslira_domain::cache::{Changes, LIFETIME, Reason, Snapshot, similarity};
use oslira_domain::{LeadId, Tier, Username};
use oslira_http::openapi::Api;
use oslira_http::{AccessGuard, GENERAL, Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

use crate::lead::lead;
use crate::refresh_profile::{CacheState, RefreshProfile, Refreshed};

/// How long to wait for the function that scrapes. It needs at most 24 seconds, and this endpoint's Lambda has 29.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(26);

/// Whether the profile has changed.
#[derive(Debug, Serialize, JsonSchema)]
struct RefreshCheck {
    lead_id: LeadId,
    username: Username,
    needs_refresh: bool,
    /// `None` if there was no older profile to compare with.
    changes: Option<Changes>,
    /// What the profile was compared with: the `cache` entry, or the `lead` as of its last analysis.
    compared_with: Option<Baseline>,
    invalidation_reason: Option<Invalidation>,
    /// The state of the cache entry before, as far as the account's own last analysis explains it. The entry has been replaced by the current
    /// profile.
    cache_status: CacheState,
    is_private: bool,
    last_analyzed: Option<Timestamp>,
    recommendation: &'static str,
}

/// The change that invalidates the entry, with its details.
#[derive(Debug, Serialize, JsonSchema)]
struct Invalidation {
    reason: Reason,
    details: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Baseline {
    Cache,
    Lead,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<LeadId>("leadId")
        .limited(&[GENERAL, REFRESH_CHECKS])
        .responds::<RefreshCheck>(200)
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::LEAD_NOT_FOUND)
        .refuses(&errors::PROFILE_NOT_FOUND)
        .refuses(&errors::PROFILE_PRIVATE)
        .refuses(&errors::PROFILE_RESTRICTED)
        .refuses(&errors::PROFILE_BLOCKED)
        .refuses(&errors::SCRAPE_FAILED)
        .refuses(&errors::SCRAPE_TIMED_OUT)
        .end();
}

/// Fetches the current profile of a lead, compares it with the cached one and replaces the cache entry. Costs no credits. Requires at least
/// the role `member`.
///
/// If the cached profile is unchanged, the profile is also compared with the one that the lead's last analysis saw. The check reports a
/// change until the lead is analyzed again, even if another check has replaced the cache entry since.
#[endpoint(POST, "/api/leads/{leadId}/refresh-check")]
pub async fn refresh_check(request: Request, guard: AccessGuard, db: UserDb, scraper: Function) -> Result<Reply, Problem> {
    let (lead_id, lead) = lead(&request, &guard, &db).await?;
    let limit_status = guard.count(REFRESH_CHECKS, &lead.account_id.to_string(), 1).await?;
    let asked = RefreshProfile { account_id: lead.account_id, username: lead.username };
    let (before, cache_status, now) = match scraper.invoke::<Refreshed>(&asked).await? {
        Refreshed::Fetched { before, cache, now } => (before, cache, now),
        failed => return Err(refusal(&failed, &asked.username)),
    };
    let cache_status = cache_status.min(explained(lead.last_analyzed_at, request.received_at));
    let baselines = [(Baseline::Cache, before), (Baseline::Lead, lead.seen)];
    let found = compare(&baselines, &now);
    let reason = match &found {
        Some((_, _, changes)) => changes.reason(),
        None => Some(Reason::TtlExpired),
    };
    let changes = found.as_ref().map(|(.., changes)| *changes);
    if now.is_private && changes.is_some_and(|changes| !changes.privacy_changed) {
        let message = format!("@{} is private, as it was before. It cannot be analyzed.", asked.username);
        return Err(Problem::of(&errors::PROFILE_PRIVATE).message(message));
    }
    let reply = Reply::ok(&RefreshCheck {
        lead_id,
        username: asked.username,
        needs_refresh: reason.is_some(),
        changes,
        compared_with: found.as_ref().map(|(baseline, ..)| *baseline),
        invalidation_reason: reason
            .map(|reason| Invalidation { reason, details: details(reason, found.as_ref().map(|(_, old, _)| *old), &now) }),
        cache_status,
        is_private: now.is_private,
        last_analyzed: lead.last_analyzed_at,
        recommendation: match reason {
            _ if now.is_private => "The profile is private now: it cannot be analyzed.",
            Some(_) => "The profile has changed: analyze the lead again.",
            None => "The profile is unchanged: the last analysis is still valid.",
        },
    })?;
    Ok(reply.with_limit(limit_status))
}

/// Returns the best state of the entry that the account's last analysis explains. A better one is due to another account, which is not for this one
/// to learn.
fn explained(last_analyzed: Option<Timestamp>, now: Timestamp) -> CacheState {
    let Some(age) = last_analyzed.map(|at| now.duration_since(at)) else { return CacheState::Missing };
    let within = |limit| age <= SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    if within(Tier::Light.max_profile_age()) {
        CacheState::Fresh
    } else if within(LIFETIME) {
        CacheState::Stale
    } else {
        CacheState::Missing
    }
}

/// Returns the first comparison with a change, or else the first comparison.
fn compare<'a>(baselines: &'a [(Baseline, Option<Snapshot>)], now: &Snapshot) -> Option<(Baseline, &'a Snapshot, Changes)> {
    let compared = || baselines.iter().filter_map(|(baseline, old)| old.as_ref().map(|old| (*baseline, old, Changes::between(old, now))));
    compared().find(|(.., changes)| changes.reason().is_some()).or_else(|| compared().next())
}

/// Describes the change for people.
fn details(reason: Reason, old: Option<&Snapshot>, new: &Snapshot) -> String {
    let Some(old) = old else { return "There is no earlier profile to compare with.".to_owned() };
    match reason {
        Reason::FollowerChange => {
            let number = |count: Option<i64>| count.map_or_else(|| "An unknown number of".to_owned(), |count| count.to_string());
            format!("{} followers became {}.", number(old.follower_count), number(new.follower_count))
        }
        Reason::BioChange => {
            format!("The bio has changed: the similarity of the old and the new one is {:.2}.", similarity(&old.bio, &new.bio))
        }
        Reason::PrivacyChange if new.is_private => "The profile became private.".to_owned(),
        Reason::PrivacyChange => "The profile became public.".to_owned(),
        Reason::VerificationChange if new.is_verified => "The profile was verified.".to_owned(),
        Reason::VerificationChange => "The profile is no longer verified.".to_owned(),
        Reason::TtlExpired => "The cached profile is too old.".to_owned(),
    }
}

fn refusal(outcome: &Refreshed, username: &Username) -> Problem {
    let (error, message) = match outcome {
        Refreshed::NotFound => (&errors::PROFILE_NOT_FOUND, format!("Instagram has no profile @{username}.")),
        Refreshed::Restricted => (&errors::PROFILE_RESTRICTED, format!("Instagram shows @{username} only to some of its users.")),
        Refreshed::Blocked => (&errors::PROFILE_BLOCKED, format!("Instagram did not serve @{username} this time.")),
        Refreshed::TimedOut => (&errors::SCRAPE_TIMED_OUT, format!("Fetching @{username} took too long.")),
        Refreshed::Failed | Refreshed::Fetched { .. } => (&errors::SCRAPE_FAILED, format!("@{username} could not be fetched this time.")),
    };
    Problem::of(error).message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(followers: i64) -> Snapshot {
        Snapshot { follower_count: Some(followers), bio: "coffee".to_owned(), is_private: false, is_verified: false }
    }

    fn compared(cached: Option<i64>, seen: Option<i64>, now: i64) -> Option<(Baseline, i64, bool)> {
        let baselines = [(Baseline::Cache, cached.map(profile)), (Baseline::Lead, seen.map(profile))];
        compare(&baselines, &profile(now))
            .map(|(baseline, old, changes)| (baseline, old.follower_count.unwrap_or(-1), changes.reason().is_some()))
    }

    #[test]
    fn the_lead_is_compared_if_the_cache_entry_shows_no_change() {
        assert_eq!(compared(Some(1000), Some(1000), 1200), Some((Baseline::Cache, 1000, true)));
        assert_eq!(compared(Some(1200), Some(1000), 1200), Some((Baseline::Lead, 1000, true)));
        assert_eq!(compared(Some(1150), Some(1190), 1200), Some((Baseline::Cache, 1150, false)));
        assert_eq!(compared(None, Some(1000), 1000), Some((Baseline::Lead, 1000, false)));
        assert_eq!(compared(Some(1000), None, 1000), Some((Baseline::Cache, 1000, false)));
        assert_eq!(compared(None, None, 1000), None);
    }

    #[test]
    fn every_reason_has_a_description() {
        let (old, private) = (profile(1000), Snapshot { is_private: true, is_verified: true, bio: String::new(), follower_count: Some(5) });
        let described = |reason, old: &Snapshot, new: &Snapshot| details(reason, Some(old), new);
        assert_eq!(described(Reason::FollowerChange, &old, &private), "1000 followers became 5.");
        assert!(described(Reason::BioChange, &old, &private).contains("is 0.00"));
        assert_eq!(described(Reason::PrivacyChange, &old, &private), "The profile became private.");
        assert_eq!(described(Reason::PrivacyChange, &private, &old), "The profile became public.");
        assert_eq!(described(Reason::VerificationChange, &old, &private), "The profile was verified.");
        assert_eq!(described(Reason::VerificationChange, &private, &old), "The profile is no longer verified.");
        assert!(details(Reason::TtlExpired, None, &old).contains("no earlier profile"));
    }

    #[test]
    fn every_failure_has_its_own_code() {
        let username: Username = "nike".parse().unwrap();
        let codes = [Refreshed::NotFound, Refreshed::Restricted, Refreshed::Blocked, Refreshed::TimedOut, Refreshed::Failed];
        let codes = codes.map(|outcome| refusal(&outcome, &username).code());
        assert_eq!(codes, ["PROFILE_NOT_FOUND", "PROFILE_RESTRICTED", "PROFILE_BLOCKED", "SCRAPE_TIMED_OUT", "SCRAPE_FAILED"]);
    }
}
