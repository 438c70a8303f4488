//! Leads and their analyses as their account sees them.

use std::str::FromStr;

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId, LeadId, RunId, RunStatus, Tier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use crate::error::DbError;
use crate::listing::{Listed, Slice, listed};
use crate::session::{Claims, UserDb};

/// By what a list of leads is ordered. Leads without the value come last, whatever the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LeadOrder {
    /// When the last analysis ended.
    LastAnalyzedAt,
    /// How many follow it.
    FollowerCount,
    /// When it became a lead.
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
    /// Only those of this business.
    pub business_profile_id: Option<BusinessProfileId>,
    /// Only those whose handle or name contains this text, in any case.
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

/// A lead with everything that is known of it.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, and can be restored.
    Deleted,
    /// There is none that the caller can see.
    NotFound,
    /// The caller may not write.
    Forbidden,
}

/// How a restoration ended.
#[derive(Debug, Deserialize)]
pub struct Restoration {
    /// `restored`, `not_found`, `forbidden` or `conflict`.
    pub outcome: String,
    /// The lead, or the live one that is in its way.
    pub lead_id: Option<LeadId>,
    /// Its handle.
    pub username: Option<String>,
    /// How many analyses came back with it.
    #[serde(default)]
    pub analyses_restored: i64,
}

const LATEST: &str =
    "SELECT a.id, a.run_id, a.analysis_type, a.overall_score, a.niche_fit_score, a.engagement_score, a.confidence_level, a.completed_at
     FROM analyses a WHERE a.lead_id = l.id AND a.status = 'completed' AND a.deleted_at IS NULL ORDER BY a.completed_at DESC LIMIT 1";

impl UserDb {
    /// A page of the account's leads, each with its latest analysis, and how many there are. `None` if the caller has no such account.
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
        let profile = filter.business_profile_id.map(|id| id.0);
        let rows = self
            .query(
                claims,
                &sql,
                &[
                    (&account.map(|id| id.0), Type::UUID),
                    (&slice.limit, Type::INT8),
                    (&slice.offset, Type::INT8),
                    (&profile, Type::UUID),
                    (&pattern, Type::TEXT),
                    (&slice.as_of, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        listed(&rows)
    }

    /// A lead, if the caller may see it.
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
        let rows = self.query(claims, &sql, &[(&account.map(|id| id.0), Type::UUID), (&lead.0, Type::UUID)]).await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<LeadDetail>>(0)?.0)).transpose()
    }

    /// The analyses of a lead, newest first; `None` if the caller may not see the lead.
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
        let tier = tier.map(Tier::as_str);
        let rows = self
            .query(
                claims,
                "SELECT (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.created_at DESC, x.id DESC), '[]') FROM (
                            SELECT a.id, a.run_id, a.analysis_type, a.status, a.overall_score, a.niche_fit_score, a.engagement_score, a.confidence_level,
                                   a.summary_text, a.credits_charged, a.model_used, a.processing_duration_ms, a.completed_at, a.created_at
                            FROM analyses a WHERE a.lead_id = l.id AND a.deleted_at IS NULL AND ($3::text IS NULL OR a.analysis_type = $3)
                            ORDER BY a.created_at DESC, a.id DESC LIMIT $4) x)
                 FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)",
                &[(&account.map(|id| id.0), Type::UUID), (&lead.0, Type::UUID), (&tier, Type::TEXT), (&limit, Type::INT8)],
            )
            .await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<Vec<LeadAnalysis>>>(0)?.0)).transpose()
    }

    /// Deletes a lead with its analyses, softly.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn delete_lead(&self, claims: &Claims, account: Option<AccountId>, lead: LeadId) -> Result<Deletion, DbError> {
        let rows =
            self.query(claims, "SELECT delete_lead($1, $2)", &[(&lead.0, Type::UUID), (&account.map(|id| id.0), Type::UUID)]).await?;
        let outcome: String = rows.first().ok_or_else(|| DbError::Unexpected("no row".to_owned()))?.try_get(0)?;
        Ok(match outcome.as_str() {
            "deleted" => Deletion::Deleted,
            "forbidden" => Deletion::Forbidden,
            _ => Deletion::NotFound,
        })
    }

    /// Brings a lead back that was deleted within 30 days, with the analyses that went with it.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn restore_lead(&self, claims: &Claims, account: Option<AccountId>, lead: LeadId) -> Result<Restoration, DbError> {
        self.call(claims, "SELECT restore_lead($1, $2)", &[(&lead.0, Type::UUID), (&account.map(|id| id.0), Type::UUID)]).await
    }
}

/// The statement of a list. Only the conditions that are asked for are written down: the planner then sees the index that serves them.
///
/// Its parameters: account, limit, offset, business profile, search pattern, moment.
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
    // Written as the index of each order is: the planner does not know that a column without nulls has none to put last.
    let nulls = if filter.order == LeadOrder::CreatedAt { "" } else { " NULLS LAST" };
    let order = format!("l.{column} {direction}{nulls}, l.id {direction}");
    // A search has to look at every lead of the account: once, for the count and the page.
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
         SELECT (SELECT account_id FROM caller) AS account_id, now() AS as_of, (SELECT count(*) FROM {counted}) AS total,
                (SELECT coalesce(jsonb_agg(to_jsonb(p) - 'latest' - 'place' || jsonb_build_object('latest_analysis', p.latest) ORDER BY p.place), '[]')
                 FROM (SELECT row_number() OVER (ORDER BY {order}) AS place, l.id, l.business_profile_id, l.username AS instagram_username,
                              l.display_name, l.profile_pic_url, l.profile_url, l.follower_count, l.following_count, l.post_count, l.is_verified,
                              l.is_private, l.is_business_account, l.last_analyzed_at, l.created_at,
                              (SELECT to_jsonb(x) FROM ({LATEST}) x) AS latest
                       FROM ({page}) l) p) AS rows,
                $4::uuid, $5::text, $6::timestamptz"
    )
}

/// The pattern of a text that contains `text`, in which `%`, `_` and the backslash mean themselves.
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
    fn what_is_searched_for_is_taken_literally() {
        assert_eq!(containing(r"50%_\a"), r"%50\%\_\\a%");
    }
}
