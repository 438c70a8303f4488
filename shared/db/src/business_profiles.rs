//! The businesses that an account sells for.

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::{Json, Type};

use crate::error::DbError;
use crate::listing::{Listed, Slice, listed};
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

/// What a context pack holds. It is stored and answered as it was given.
#[derive(Serialize, JsonSchema)]
struct ContextPack {
    /// Whom the business sells to.
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

/// How a creation or a change ended.
#[derive(Debug, Deserialize)]
pub struct Written {
    /// `created`, `updated`, `no_account`, `not_found`, `forbidden`, `plan_limit` or `follower_range`.
    pub outcome: String,
    /// The profile as it is now.
    pub profile: Option<BusinessProfileDetail>,
    /// The plan that allows no more.
    pub plan: Option<String>,
    /// How many it allows.
    pub limit: Option<i64>,
}

const COUNTS: &str = "(SELECT count(*) FROM leads l WHERE l.account_id = p.account_id AND l.business_profile_id = p.id AND l.deleted_at IS NULL) AS leads_count,
     (SELECT count(*) FROM analyses a WHERE a.business_profile_id = p.id AND a.deleted_at IS NULL) AS analyses_count";

impl UserDb {
    /// A page of the account's business profiles, newest first. `None` if the caller has no such account.
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
             SELECT (SELECT account_id FROM caller) AS account_id, now() AS as_of,
                    (SELECT count(*) FROM business_profiles p WHERE p.account_id = (SELECT account_id FROM caller) AND p.deleted_at IS NULL
                        AND ($4::timestamptz IS NULL OR p.created_at <= $4)) AS total,
                    (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.created_at DESC, x.id DESC), '[]') FROM (
                        SELECT p.id, p.business_name, p.website, p.business_one_liner, p.created_at, p.updated_at, {COUNTS}
                        FROM business_profiles p
                        WHERE p.account_id = (SELECT account_id FROM caller) AND p.deleted_at IS NULL AND ($4::timestamptz IS NULL OR p.created_at <= $4)
                        ORDER BY p.created_at DESC, p.id DESC LIMIT $2 OFFSET $3) x) AS rows"
        );
        let rows = self
            .query(
                claims,
                &sql,
                &[
                    (&account.map(|id| id.0), Type::UUID),
                    (&slice.limit, Type::INT8),
                    (&slice.offset, Type::INT8),
                    (&slice.as_of, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        listed(&rows)
    }

    /// A business profile, if the caller may see it.
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
        let rows = self.query(claims, &sql, &[(&account.map(|id| id.0), Type::UUID), (&profile.0, Type::UUID)]).await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<BusinessProfileDetail>>(0)?.0)).transpose()
    }

    /// Creates a business profile of valid `fields`, if the account's plan allows another.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn create_business_profile(&self, claims: &Claims, account: Option<AccountId>, fields: &Value) -> Result<Written, DbError> {
        self.call(claims, "SELECT create_business_profile($1, $2)", &[(&account.map(|id| id.0), Type::UUID), (fields, Type::JSONB)]).await
    }

    /// Changes the fields in `patch`; its context pack is merged into the one that is there.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn update_business_profile(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        profile: BusinessProfileId,
        patch: &Value,
    ) -> Result<Written, DbError> {
        let params: [crate::session::Param<'_>; 3] =
            [(&profile.0, Type::UUID), (&account.map(|id| id.0), Type::UUID), (patch, Type::JSONB)];
        self.call(claims, "SELECT update_business_profile($1, $2, $3)", &params).await
    }
}
