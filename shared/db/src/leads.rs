//! Leads and their analyses as their account sees them.

use std::str::FromStr;

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId, LeadId, RunId, RunStatus, Tier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::DbError;
use crate::listing::{Listed, Slice};
use crate::params::params;
use crate::session::{Claims, UserDb};

/// The order of a list of leads. Leads without the value come last in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LeadOrder {
    /// When the last analysis ended.
    LastAnalyzedAt,
    /// The number of followers.
    FollowerCount,
    /// When the lead was created.
    CreatedAt,
}

impl LeadOrder {
    const fn column(self) -> &'static str {
        match self {
            Self::LastAnalyzedAt => "last_analyzed_at",
            Self::FollowerCount => "follower_count",
            Self::CreatedAt => "created_at",
        }
    }
}

impl FromStr for LeadOrder {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::LastAnalyzedAt, Self::FollowerCount, Self::CreatedAt].into_iter().find(|order| order.column() == text);
        known.ok_or("last_analyzed_at, follower_count or created_at")
    }
}

/// Which leads, in which order.
#[derive(Debug, Clone)]
pub struct LeadFilter {
    /// Only leads of this business.
    pub business_profile_id: Option<BusinessProfileId>,
    /// Only leads whose handle or name contains this text, in upper or lower case.
    pub search: Option<String>,
    /// The order.
    pub order: LeadOrder,
    /// Greatest first.
    pub descending: bool,
}

/// A lead in a list.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeadSummary {
    id: LeadId,
    business_profile_id: BusinessProfileId,
    instagram_username: String,
    display_name: Option<String>,
    profile_pic_url: Option<String>,
    profile_url: String,
    follower_count: Option<i64>,
    following_count: Option<i64>,
    post_count: Option<i64>,
    is_verified: bool,
    is_private: bool,
    is_business_account: bool,
    last_analyzed_at: Option<Timestamp>,
    created_at: Timestamp,
    latest_analysis: Option<LatestAnalysis>,
}

/// A lead with all its fields.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeadDetail {
    id: LeadId,
    account_id: AccountId,
    business_profile_id: BusinessProfileId,
    instagram_username: String,
    display_name: Option<String>,
    profile_pic_url: Option<String>,
    profile_url: String,
    follower_count: Option<i64>,
    following_count: Option<i64>,
    post_count: Option<i64>,
    bio: Option<String>,
    external_url: Option<String>,
    is_verified: bool,
    is_private: bool,
    is_business_account: bool,
    first_analyzed_at: Option<Timestamp>,
    last_analyzed_at: Option<Timestamp>,
    created_at: Timestamp,
    analyses_count: i64,
    latest_analysis: Option<LatestAnalysis>,
}

/// The analysis that ended last.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LatestAnalysis {
    id: Uuid,
    #[schemars(with = "RunId")]
    run_id: String,
    analysis_type: Tier,
    overall_score: Option<i32>,
    niche_fit_score: Option<i32>,
    engagement_score: Option<i32>,
    confidence_level: Option<f64>,
    completed_at: Option<Timestamp>,
}

/// An analysis of a lead.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeadAnalysis {
    id: Uuid,
    #[schemars(with = "RunId")]
    run_id: String,
    analysis_type: Tier,
    #[schemars(with = "RunStatus")]
    status: String,
    overall_score: Option<i32>,
    niche_fit_score: Option<i32>,
    engagement_score: Option<i32>,
    confidence_level: Option<f64>,
    summary_text: Option<String>,
    credits_charged: i32,
    model_used: Option<String>,
    processing_duration_ms: Option<i64>,
    completed_at: Option<Timestamp>,
    created_at: Timestamp,
}

/// How a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletion {
    /// The lead is deleted and can be restored.
    Deleted,
    /// The caller sees no such lead.
    NotFound,
    /// The caller may not write.
    Forbidden,
}

/// How a restoration ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Restoration {
    /// The lead is live.
    Restored {
        /// The lead.
        lead_id: LeadId,
        /// Its handle.
        username: String,
        /// How many analyses were restored with it.
        analyses_restored: i64,
    },
    /// The caller sees no such lead, or its 30 days are over.
    NotFound,
    /// The caller may not write.
    Forbidden,
    /// The handle is a live lead again.
    Conflict {
        /// The live lead.
        lead_id: Option<LeadId>,
        /// Its handle.
        username: String,
    },
}

const LATEST: &str =
    "SELECT a.id, a.run_id, a.analysis_type, a.overall_score, a.niche_fit_score, a.engagement_score, a.confidence_level, a.completed_at
     FROM analyses a WHERE a.lead_id = l.id AND a.status = 'completed' AND a.deleted_at IS NULL ORDER BY a.completed_at DESC LIMIT 1";

impl UserDb {
    /// Reads a page of the account's leads, each with its latest analysis, and the number of leads on all pages. `None` if the caller has
    /// no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn leads(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        filter: &LeadFilter,
        slice: Slice,
    ) -> Result<Option<Listed<LeadSummary>>, DbError> {
        let sql = list_statement(filter, slice.as_of.is_some());
        let pattern = filter.search.as_deref().map(containing);
        let (profile, search) = (filter.business_profile_id, pattern.as_deref());
        self.call(claims, &sql, &params![account, slice.limit, slice.offset, profile, search, slice.as_of]).await
    }

    /// Reads a lead, if the caller may see it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn lead(&self, claims: &Claims, account: Option<AccountId>, lead: LeadId) -> Result<Option<LeadDetail>, DbError> {
        let sql = format!(
            "SELECT to_jsonb(l) || jsonb_build_object('instagram_username', l.username,
                        'analyses_count', (SELECT count(*) FROM analyses a WHERE a.lead_id = l.id AND a.deleted_at IS NULL),
                        'latest_analysis', (SELECT to_jsonb(x) FROM ({LATEST}) x))
             FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)"
        );
        self.call(claims, &sql, &params![account, lead]).await
    }

    /// Reads the analyses of a lead, newest first. `None` if the caller may not see the lead.
    ///
    /// # Errors
    /// As any statement.
    pub async fn lead_analyses(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        lead: LeadId,
        tier: Option<Tier>,
        limit: i64,
    ) -> Result<Option<Vec<LeadAnalysis>>, DbError> {
        let sql = "SELECT (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.created_at DESC, x.id DESC), '[]') FROM (
                SELECT a.id, a.run_id, a.analysis_type, a.status, a.overall_score, a.niche_fit_score, a.engagement_score, a.confidence_level,
                       a.summary_text, a.credits_charged, a.model_used, a.processing_duration_ms, a.completed_at, a.created_at
                FROM analyses a WHERE a.lead_id = l.id AND a.deleted_at IS NULL AND ($3::text IS NULL OR a.analysis_type = $3)
                ORDER BY a.created_at DESC, a.id DESC LIMIT $4) x)
            FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)";
        self.call(claims, sql, &params![account, lead, tier, limit]).await
    }

    /// Soft-deletes a lead with its analyses.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn delete_lead(&self, claims: &Claims, account: Option<AccountId>, lead: LeadId) -> Result<Deletion, DbError> {
        self.call(claims, "SELECT to_jsonb(delete_lead($1, $2))", &params![lead, account]).await
    }

    /// Restores a lead that was deleted within 30 days, with the analyses that were deleted with it.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn restore_lead(&self, claims: &Claims, account: Option<AccountId>, lead: LeadId) -> Result<Restoration, DbError> {
        self.call(claims, "SELECT restore_lead($1, $2)", &params![lead, account]).await
    }
}

/// Returns the statement of a list. It holds only the conditions that the filter sets, so that the planner sees the index that serves them.
///
/// Its parameters: account, limit, offset, business profile, search pattern, time.
pub fn list_statement(filter: &LeadFilter, as_of: bool) -> String {
    let mut conditions = "l.account_id = (SELECT account_id FROM caller) AND l.deleted_at IS NULL".to_owned();
    if filter.business_profile_id.is_some() {
        conditions.push_str(" AND l.business_profile_id = $4");
    }
    if filter.search.is_some() {
        conditions.push_str(" AND (l.username ILIKE $5 OR l.display_name ILIKE $5)");
    }
    if as_of {
        conditions.push_str(" AND l.created_at <= $6");
    }
    let (column, direction) = (filter.order.column(), if filter.descending { "DESC" } else { "ASC" });
    // As the index of each order says: the planner does not know that a column without nulls has none to put last.
    let nulls = if filter.order == LeadOrder::CreatedAt { "" } else { " NULLS LAST" };
    let order = format!("l.{column} {direction}{nulls}, l.id {direction}");
    // A search reads every lead of the account: once, for both the count and the page.
    let (found, counted, page) = if filter.search.is_some() {
        (
            format!(", found AS MATERIALIZED (SELECT l.id, l.{column} FROM leads l WHERE {conditions})"),
            "found".to_owned(),
            format!("SELECT l.* FROM (SELECT l.id FROM found l ORDER BY {order} LIMIT $2 OFFSET $3) f JOIN leads l ON l.id = f.id"),
        )
    } else {
        (
            String::new(),
            format!("leads l WHERE {conditions}"),
            format!("SELECT l.* FROM leads l WHERE {conditions} ORDER BY {order} LIMIT $2 OFFSET $3"),
        )
    };
    format!(
        "WITH caller AS MATERIALIZED (SELECT account_id FROM caller_account($1)){found}
         SELECT jsonb_build_object('account_id', caller.account_id, 'as_of', now(), 'total', (SELECT count(*) FROM {counted}), 'rows',
                (SELECT coalesce(jsonb_agg(to_jsonb(p) - 'latest' - 'place' || jsonb_build_object('latest_analysis', p.latest) ORDER BY p.place), '[]')
                 FROM (SELECT row_number() OVER (ORDER BY {order}) AS place, l.id, l.business_profile_id, l.username AS instagram_username,
                              l.display_name, l.profile_pic_url, l.profile_url, l.follower_count, l.following_count, l.post_count, l.is_verified,
                              l.is_private, l.is_business_account, l.last_analyzed_at, l.created_at,
                              (SELECT to_jsonb(x) FROM ({LATEST}) x) AS latest
                       FROM ({page}) l) p)),
                $4::uuid, $5::text, $6::timestamptz
         FROM caller"
    )
}

/// Returns the `LIKE` pattern of texts that contain `text`, with `%`, `_` and the backslash escaped.
fn containing(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_text_is_matched_literally() {
        assert_eq!(containing(r"50%_\a"), r"%50\%\_\\a%");
    }
}
