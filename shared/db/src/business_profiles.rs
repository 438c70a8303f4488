//! The businesses that an account sells for.

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;

use crate::error::DbError;
use crate::listing::{Listed, Slice};
use crate::params::params;
use crate::session::{Claims, UserDb};

/// A business profile in a list.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BusinessProfileSummary {
    id: BusinessProfileId,
    business_name: String,
    website: Option<String>,
    business_one_liner: Option<String>,
    leads_count: i64,
    analyses_count: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A business profile with its context.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BusinessProfileDetail {
    id: BusinessProfileId,
    account_id: AccountId,
    business_name: String,
    website: Option<String>,
    business_one_liner: Option<String>,
    #[schemars(with = "ContextPack")]
    business_context_pack: Value,
    context_version: String,
    context_generated_at: Option<Timestamp>,
    context_manually_edited: bool,
    context_updated_at: Option<Timestamp>,
    leads_count: i64,
    analyses_count: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The fields of a context pack. It is stored and returned as the client sent it.
#[derive(Serialize, JsonSchema)]
struct ContextPack {
    /// The audience that the business sells to.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_audience: Option<String>,
    /// Its industry.
    #[serde(skip_serializing_if = "Option::is_none")]
    industry: Option<String>,
    /// What it sells.
    #[serde(skip_serializing_if = "Option::is_none")]
    offering: Option<String>,
    /// The fewest followers of a good lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_min_followers: Option<i64>,
    /// The most followers of a good lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_max_followers: Option<i64>,
    /// The lowest engagement rate of a good lead, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_min_engagement_rate: Option<f64>,
    /// What a good lead posts about.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_content_themes: Option<Vec<String>>,
    /// Where good leads are.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_geographic_focus: Option<String>,
    /// The niche of good leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    icp_industry_niche: Option<String>,
    /// Why one buys from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    selling_points: Option<Vec<String>>,
    /// How it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    brand_voice: Option<String>,
    /// What a first message is to achieve.
    #[serde(skip_serializing_if = "Option::is_none")]
    outreach_goals: Option<String>,
}

/// How the creation of a business profile ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Creation {
    /// It is created.
    Created {
        /// The new profile.
        profile: Box<BusinessProfileDetail>,
    },
    /// The caller has no such account.
    NoAccount,
    /// The caller may not write.
    Forbidden,
    /// The account's plan allows no more.
    PlanLimit {
        /// The plan, if the account has one.
        plan: Option<String>,
        /// How many business profiles it allows.
        limit: i64,
    },
}

/// How the change of a business profile ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Update {
    /// It is changed.
    Updated {
        /// The profile after the change.
        profile: Box<BusinessProfileDetail>,
    },
    /// The caller sees no such profile.
    NotFound,
    /// The caller may not write.
    Forbidden,
    /// The merged range of followers would end below its start.
    FollowerRange,
}

const COUNTS: &str = "(SELECT count(*) FROM leads l WHERE l.account_id = p.account_id AND l.business_profile_id = p.id AND l.deleted_at IS NULL) AS leads_count,
     (SELECT count(*) FROM analyses a WHERE a.business_profile_id = p.id AND a.deleted_at IS NULL) AS analyses_count";

impl UserDb {
    /// Reads a page of the account's business profiles, newest first. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn business_profiles(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        slice: Slice,
    ) -> Result<Option<Listed<BusinessProfileSummary>>, DbError> {
        let sql = format!(
            "WITH caller AS MATERIALIZED (SELECT account_id FROM caller_account($1))
             SELECT jsonb_build_object('account_id', caller.account_id, 'as_of', now(),
                'total', (SELECT count(*) FROM business_profiles p
                    WHERE p.account_id = (SELECT account_id FROM caller) AND p.deleted_at IS NULL
                      AND ($4::timestamptz IS NULL OR p.created_at <= $4)),
                'rows', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.created_at DESC, x.id DESC), '[]') FROM (
                    SELECT p.id, p.business_name, p.website, p.business_one_liner, p.created_at, p.updated_at, {COUNTS}
                    FROM business_profiles p
                    WHERE p.account_id = (SELECT account_id FROM caller) AND p.deleted_at IS NULL
                      AND ($4::timestamptz IS NULL OR p.created_at <= $4)
                    ORDER BY p.created_at DESC, p.id DESC LIMIT $2 OFFSET $3) x))
             FROM caller"
        );
        self.call(claims, &sql, &params![account, slice.limit, slice.offset, slice.as_of]).await
    }

    /// Reads a business profile, if the caller may see it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn business_profile(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        profile: BusinessProfileId,
    ) -> Result<Option<BusinessProfileDetail>, DbError> {
        let sql = format!(
            "SELECT to_jsonb(x) FROM (SELECT p.*, {COUNTS} FROM business_profiles p
             WHERE p.id = $2 AND p.deleted_at IS NULL AND ($1::uuid IS NULL OR p.account_id = $1)) x"
        );
        self.call(claims, &sql, &params![account, profile]).await
    }

    /// Creates a business profile of valid `fields`, if the account's plan allows another.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn create_business_profile(&self, claims: &Claims, account: Option<AccountId>, fields: &Value) -> Result<Creation, DbError> {
        self.call(claims, "SELECT create_business_profile($1, $2)", &params![account, Json(fields)]).await
    }

    /// Changes the fields in `patch`. Its context pack is merged into the existing one.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn update_business_profile(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        profile: BusinessProfileId,
        patch: &Value,
    ) -> Result<Update, DbError> {
        self.call(claims, "SELECT update_business_profile($1, $2, $3)", &params![profile, account, Json(patch)]).await
    }
}
