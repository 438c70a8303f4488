//! Runs as their account sees them.

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId, FailureCode, Run, RunId, RunStatus, StepTiming, Tier, Username};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use crate::error::DbError;
use crate::session::{Claims, UserDb};

/// What decides whether an analysis may start.
#[derive(Debug)]
pub struct Precheck {
    /// The account that will pay.
    pub account_id: AccountId,
    /// Whether the caller may spend its credits.
    pub can_spend: bool,
    /// Its balance.
    pub available: i32,
    /// Whether the business profile is the account's and live.
    pub business_profile_exists: bool,
    /// A live run of the same handle.
    pub running: Option<RunId>,
    /// The request that used the same idempotency key.
    pub key: Option<UsedKey>,
}

/// A request that was accepted under an idempotency key.
#[derive(Debug, Deserialize)]
pub struct UsedKey {
    /// Of that request.
    pub request_hash: String,
    /// Its run.
    pub work_id: String,
    /// Its answer.
    pub answer: String,
    /// Whether the run is in the database.
    pub known: bool,
}

/// A run's row, as far as progress and results show it.
#[derive(Debug)]
pub struct RunRow {
    /// The analysis.
    pub analysis_id: Uuid,
    /// The lead, once saved.
    pub lead_id: Option<Uuid>,
    /// The handle.
    pub username: String,
    /// The tier.
    pub tier: Tier,
    /// Where it is.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// More about the failure, such as the credits that were missing.
    pub error_details: Option<Value>,
    /// What the models said; `report` holds the tier's fields.
    pub ai_response: Value,
    /// Deterministic numbers of the profile.
    pub metrics: Option<Value>,
    /// Whether the profile came from the cache.
    pub cache_hit: Option<bool>,
    /// What the ledger debited.
    pub credits_charged: i32,
    /// What the ledger gave back.
    pub credits_refunded: i32,
    /// What vendors were paid.
    pub total_cost_micro_usd: Option<i64>,
    /// The same by provider and call.
    pub cost: Option<Value>,
    /// The model of the main call.
    pub model_used: Option<String>,
    /// The steps with their times.
    pub steps: Vec<StepTiming>,
    /// How far it came, 0 to 100; a live run may be further.
    pub percent: u8,
    /// From request to end.
    pub processing_duration_ms: Option<i64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// Whether a caller may see a run, and what the database knows of it.
#[derive(Debug)]
pub struct RunView {
    /// The caller's accounts.
    pub account_ids: Vec<AccountId>,
    /// The run, if it is one of theirs.
    pub run: Option<RunRow>,
}

/// How a cancellation ended.
#[derive(Debug, Deserialize)]
pub struct Cancellation {
    /// `not_found`, `forbidden`, or the status that the run has now.
    pub outcome: String,
    /// Whether this call ended it.
    #[serde(default)]
    pub newly: bool,
    /// What the run had been charged and got back.
    #[serde(default)]
    pub credits_refunded: i32,
}

impl UserDb {
    /// Everything that decides about an analysis, in one read. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn precheck(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        business_profile: BusinessProfileId,
        username: &Username,
        key: Option<&str>,
    ) -> Result<Option<Precheck>, DbError> {
        let rows = self
            .query(
                claims,
                "SELECT c.account_id, c.can_spend,
                        coalesce((SELECT b.current_balance FROM credit_balances b WHERE b.account_id = c.account_id), 0) AS available,
                        EXISTS (SELECT 1 FROM business_profiles p WHERE p.id = $2 AND p.account_id = c.account_id AND p.deleted_at IS NULL) AS profile,
                        (SELECT a.run_id FROM analyses a WHERE a.account_id = c.account_id AND a.business_profile_id = $2 AND a.username = $3
                            AND a.status IN ('pending', 'processing') AND NOT run_is_stuck(a.status, a.batch_id, a.last_step_at)) AS running,
                        (SELECT to_jsonb(k) || jsonb_build_object('known', EXISTS (SELECT 1 FROM analyses a WHERE a.run_id = k.work_id))
                         FROM idempotency_keys k WHERE k.account_id = c.account_id AND k.user_id = (SELECT auth.uid()) AND k.key = $4
                            AND k.created_at > now() - interval '24 hours' AND k.answer IS NOT NULL) AS key
                 FROM caller_account($1) c",
                &[
                    (&account.map(|id| id.0), Type::UUID),
                    (&business_profile.0, Type::UUID),
                    (&username.as_str(), Type::TEXT),
                    (&key, Type::TEXT),
                ],
            )
            .await?;
        rows.first()
            .map(|row| {
                let running: Option<String> = row.try_get("running")?;
                Ok(Precheck {
                    account_id: AccountId(row.try_get("account_id")?),
                    can_spend: row.try_get("can_spend")?,
                    available: row.try_get("available")?,
                    business_profile_exists: row.try_get("profile")?,
                    running: running.and_then(|id| id.parse().ok()),
                    key: row.try_get::<_, Option<Json<UsedKey>>>("key")?.map(|key| key.0),
                })
            })
            .transpose()
    }

    /// The run, if the caller may see it, and the caller's accounts.
    ///
    /// # Errors
    /// As any statement.
    pub async fn run(&self, claims: &Claims, run_id: &RunId) -> Result<RunView, DbError> {
        let rows = self
            .query(
                claims,
                "SELECT ARRAY(SELECT user_account_ids()) AS account_ids, a.id, a.lead_id, a.username, a.analysis_type, a.status, a.error_code,
                        a.error_details, a.ai_response, a.metrics, a.cache_hit, a.credits_charged, a.total_cost_micro_usd, a.cost, a.model_used,
                        a.steps, a.percent, a.processing_duration_ms, a.created_at, a.updated_at, a.completed_at,
                        (SELECT coalesce(sum(l.amount), 0)::int4 FROM credit_ledger l WHERE l.run_id = a.run_id AND l.transaction_type = 'refund') AS refunded
                 FROM (SELECT 1) one LEFT JOIN analyses a ON a.run_id = $1 AND a.deleted_at IS NULL",
                &[(&run_id.as_str(), Type::TEXT)],
            )
            .await?;
        let row = rows.first().ok_or_else(|| DbError::Unexpected("no row".to_owned()))?;
        let account_ids: Vec<Uuid> = row.try_get("account_ids")?;
        let run = row.try_get::<_, Option<Uuid>>("id")?.map(|id| run_row(row, id)).transpose()?;
        Ok(RunView { account_ids: account_ids.into_iter().map(AccountId).collect(), run })
    }

    /// Cancels and refunds a run. `accepted` is the run's input, for one that is accepted but not admitted yet.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn cancel(&self, claims: &Claims, run_id: &RunId, accepted: Option<&Run>) -> Result<Cancellation, DbError> {
        let seed = accepted.map(|run| json!(run));
        let rows = self.query(claims, "SELECT cancel_analysis($1, $2)", &[(&run_id.as_str(), Type::TEXT), (&seed, Type::JSONB)]).await?;
        let row = rows.first().ok_or_else(|| DbError::Unexpected("no row".to_owned()))?;
        Ok(row.try_get::<_, Json<Cancellation>>(0)?.0)
    }
}

fn run_row(row: &Row, analysis_id: Uuid) -> Result<RunRow, DbError> {
    let unknown = |what: &str| DbError::Unexpected(format!("unknown {what}"));
    let (tier, status): (String, String) = (row.try_get("analysis_type")?, row.try_get("status")?);
    let error_code: Option<String> = row.try_get("error_code")?;
    Ok(RunRow {
        analysis_id,
        lead_id: row.try_get("lead_id")?,
        username: row.try_get("username")?,
        tier: tier.parse().map_err(|_| unknown("tier"))?,
        status: status.parse().map_err(|_| unknown("status"))?,
        error_code: error_code.map(|code| code.parse().map_err(|_| unknown("error code"))).transpose()?,
        error_details: row.try_get("error_details")?,
        ai_response: row.try_get("ai_response")?,
        metrics: row.try_get("metrics")?,
        cache_hit: row.try_get("cache_hit")?,
        credits_charged: row.try_get("credits_charged")?,
        credits_refunded: row.try_get("refunded")?,
        total_cost_micro_usd: row.try_get("total_cost_micro_usd")?,
        cost: row.try_get("cost")?,
        model_used: row.try_get("model_used")?,
        steps: row.try_get::<_, Json<Vec<StepTiming>>>("steps")?.0,
        percent: u8::try_from(row.try_get::<_, i16>("percent")?).map_err(|_| unknown("percent"))?,
        processing_duration_ms: row.try_get("processing_duration_ms")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        completed_at: row.try_get("completed_at")?,
    })
}
