//! What an account knows of the profile cache, leads whose profile may be refreshed, and the cost of the vendor calls that refresh it.

use std::time::Duration;

use jiff::Timestamp;
use oslira_domain::cache::Snapshot;
use oslira_domain::{AccountId, LeadId, Username};
use serde::Deserialize;
use tokio_postgres::types::Json;

use crate::error::DbError;
use crate::params::params;
use crate::session::{AdminDb, Claims, UserDb};
use crate::workflow::VendorCall;

/// A lead whose profile may be refreshed.
#[derive(Debug, Deserialize)]
pub struct RefreshableLead {
    /// The account that owns the lead, and that the limits of refreshes count for.
    pub account_id: AccountId,
    /// The lead's handle.
    pub username: Username,
    /// Whether the caller may write for that account.
    pub can_write: bool,
    /// When the lead's last analysis ended.
    pub last_analyzed_at: Option<Timestamp>,
    /// The profile at that analysis. `None` if there was none.
    pub seen: Option<Snapshot>,
}

/// What an account knows of the profile cache from its own analyses.
#[derive(Debug, Deserialize)]
pub struct CacheUse {
    /// The analyses of the last day that found a profile of an earlier one.
    pub hits: u64,
    /// Those that fetched it.
    pub misses: u64,
    /// For each given age, the profiles that were fetched at most that long ago.
    pub within: Vec<FetchedProfiles>,
}

/// A number of profiles, and how long ago they were fetched.
#[derive(Debug, Deserialize)]
pub struct FetchedProfiles {
    /// The number of profiles.
    pub count: u64,
    /// The mean of their ages, in seconds. Zero without profiles.
    pub avg_age_seconds: u64,
}

impl UserDb {
    /// Returns what the caller's account knows of the cache: the profiles that its analyses fetched within each of `ages`, and
    /// how often analyses of the last day found one. `None` if the caller is no member of the account, or of any.
    ///
    /// # Errors
    /// As any statement.
    pub async fn cache_use(&self, claims: &Claims, account: Option<AccountId>, ages: &[Duration]) -> Result<Option<CacheUse>, DbError> {
        let sql = "SELECT jsonb_build_object(
                'hits', (SELECT count(*) FROM analyses a
                    WHERE a.account_id = c.account_id AND a.cache_hit AND a.completed_at > now() - interval '1 day'),
                'misses', (SELECT count(*) FROM analyses a
                    WHERE a.account_id = c.account_id AND NOT a.cache_hit AND a.completed_at > now() - interval '1 day'),
                'within', (WITH fetched AS (SELECT extract(epoch FROM now() - max(a.completed_at)) AS age FROM analyses a
                        WHERE a.account_id = c.account_id AND NOT a.cache_hit AND a.completed_at > now() - make_interval(secs => (SELECT max(s) FROM unnest($2::bigint[]) s)) GROUP BY a.username)
                    SELECT jsonb_agg((SELECT jsonb_build_object('count', count(*), 'avg_age_seconds', coalesce(round(avg(f.age)), 0)::bigint)
                        FROM fetched f WHERE f.age <= t.seconds) ORDER BY t.place)
                    FROM unnest($2::bigint[]) WITH ORDINALITY AS t (seconds, place)))
            FROM caller_account($1) c";
        self.call(claims, sql, &params![account, ages]).await
    }

    /// Reads a lead, if the caller may see it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn refreshable_lead(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        lead: LeadId,
    ) -> Result<Option<RefreshableLead>, DbError> {
        let sql = "SELECT jsonb_build_object('account_id', l.account_id, 'username', l.username, 'last_analyzed_at', l.last_analyzed_at,
                'can_write', EXISTS (SELECT 1 FROM caller_account(l.account_id) c WHERE c.can_spend),
                'seen', CASE WHEN coalesce(l.last_analyzed_at, l.first_analyzed_at) IS NOT NULL OR l.follower_count IS NOT NULL THEN jsonb_build_object('follower_count', l.follower_count,
                    'bio', coalesce(l.bio, ''), 'is_private', l.is_private, 'is_verified', l.is_verified) END)
            FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)";
        self.call(claims, sql, &params![account, lead]).await
    }
}

impl AdminDb {
    /// Records a vendor call that was made for an account outside of any run, once by its id.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_account_call(&self, account: AccountId, call: &VendorCall) -> Result<(), DbError> {
        self.execute("SELECT record_account_call($1, $2)", &params![account, Json(call)]).await
    }
}
