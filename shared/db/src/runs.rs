//! Runs as their account sees them.

use jiff::Timestamp;
use oslira_domain::{AccountId, BusinessProfileId, FailureCode, Run, RunId, RunStatus, StepTiming, Tier, Username};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::error::DbError;
use crate::idempotency::{Claim, Key};
use crate::params::params;
use crate::session::{Claims, UserDb};

/// What decides whether an analysis may start.
#[derive(Debug, Deserialize)]
pub struct Precheck {
    /// The account that pays.
    pub account_id: AccountId,
    /// Whether the caller may spend its credits.
    pub can_spend: bool,
    /// Its balance.
    pub available: i32,
    /// Whether a payment of the account is disputed, so that nothing may be spent.
    pub disputed: bool,
    /// Whether the business profile belongs to the account and is live.
    pub business_profile_exists: bool,
    /// A live run of the same handle that is not stuck.
    pub running: Option<RunId>,
    /// What an earlier request with the same idempotency key leaves to do. Open while its run is not in the database.
    pub claim: Option<Claim>,
}

/// A run, as far as its progress and its result need it.
#[derive(Debug, Deserialize)]
pub struct RunRow {
    /// The analysis.
    pub analysis_id: Uuid,
    /// The lead, once it is saved.
    pub lead_id: Option<Uuid>,
    /// The handle.
    pub username: String,
    /// The tier.
    pub tier: Tier,
    /// The status.
    pub status: RunStatus,
    /// Why the run failed, if it did.
    pub error_code: Option<FailureCode>,
    /// More about the failure, such as the credits that were missing.
    pub error_details: Option<Value>,
    /// The answers of the models; `report` holds the tier's fields.
    pub ai_response: Value,
    /// Numbers computed from the profile.
    pub metrics: Option<Value>,
    /// Whether the profile came from the cache.
    pub cache_hit: Option<bool>,
    /// The charge in the ledger.
    pub credits_charged: i32,
    /// The refund in the ledger.
    pub credits_refunded: i32,
    /// What the vendor calls cost.
    pub total_cost_micro_usd: Option<i64>,
    /// The same by provider and call.
    pub cost: Option<Value>,
    /// The model of the main question.
    pub model_used: Option<String>,
    /// The steps with their times.
    pub steps: Vec<StepTiming>,
    /// How far the run came, 0 to 100; a live run may be further.
    pub percent: u8,
    /// How long the run took: a completed one from its request, any other one from its admission.
    pub processing_duration_ms: Option<i64>,
    /// When the run was requested.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A run as a caller may see it.
#[derive(Debug, Deserialize)]
pub struct RunView {
    /// The caller's accounts, or the one that was asked for if the caller belongs to it.
    pub account_ids: Vec<AccountId>,
    /// The run, if it belongs to one of them.
    pub run: Option<RunRow>,
}

/// What runs cost us that the account has cancelled, and was refunded for, within 24 hours. Beyond the limit, a run keeps its charge that is
/// cancelled after its questions to models have begun (step 9).
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct RefundedCost {
    /// The cost so far, in millionths of a US dollar. Questions in progress count as an estimate.
    pub used_micro_usd: i64,
    /// The limit, in millionths of a US dollar.
    pub limit_micro_usd: i64,
}

/// How a cancellation ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Cancellation {
    /// The run is cancelled, by this call or an earlier one.
    Cancelled {
        /// The charge, if it was refunded.
        credits_refunded: i32,
        /// The charge, if it was kept: the run was asking its questions to models, and the account's allowance was used up.
        credits_kept: i32,
        /// What the account's cancelled runs cost.
        refunded_cost: RefundedCost,
    },
    /// The run had completed.
    Completed,
    /// The run had failed.
    Failed,
    /// The caller sees no such run.
    NotFound,
    /// The caller may not cancel it.
    Forbidden,
}

impl UserDb {
    /// Reads everything that decides about an analysis. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn precheck(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        business_profile: BusinessProfileId,
        username: &Username,
        key: Option<Key<'_>>,
    ) -> Result<Option<Precheck>, DbError> {
        let sql = "SELECT jsonb_build_object('account_id', c.account_id, 'can_spend', c.can_spend,
                'available', coalesce(b.current_balance, 0), 'disputed', b.disputed_since IS NOT NULL,
                'business_profile_exists', EXISTS (SELECT 1 FROM business_profiles p
                    WHERE p.id = $2 AND p.account_id = c.account_id AND p.deleted_at IS NULL),
                'running', (SELECT a.run_id FROM analyses a
                    WHERE a.account_id = c.account_id AND a.business_profile_id = $2 AND a.username = $3
                      AND a.status IN ('pending', 'processing') AND NOT run_is_stuck(a.status, a.batch_id, a.last_step_at)),
                'claim', (SELECT jsonb_build_object('work_id', k.work_id, 'answer', k.answer, 'outcome',
                        CASE WHEN k.request_hash <> $5 THEN 'mismatch'
                             WHEN EXISTS (SELECT 1 FROM analyses a WHERE a.run_id = k.work_id) THEN 'replay'
                             ELSE 'claimed' END)
                    FROM idempotency_keys k
                    WHERE k.account_id = c.account_id AND k.user_id = (SELECT auth.uid()) AND k.key = $4
                      AND k.created_at > now() - interval '24 hours' AND k.answer IS NOT NULL))
            FROM caller_account($1) c LEFT JOIN credit_balances b ON b.account_id = c.account_id";
        let (name, hash) = (key.map(|key| key.name), key.map(|key| key.request_hash));
        self.call(claims, sql, &params![account, business_profile, username, name, hash]).await
    }

    /// Reads a run, if the caller may see it, and the caller's accounts; only of `account`, if it is given.
    ///
    /// # Errors
    /// As any statement.
    pub async fn run(&self, claims: &Claims, account: Option<AccountId>, run_id: &RunId) -> Result<RunView, DbError> {
        let sql = "SELECT jsonb_build_object('account_ids', ARRAY(SELECT id FROM user_account_ids() id WHERE $2 IS NULL OR id = $2), 'run', (SELECT to_jsonb(r) FROM (
                SELECT a.id AS analysis_id, a.lead_id, a.username, a.analysis_type AS tier, a.status, a.error_code, a.error_details,
                       a.ai_response, a.metrics, a.cache_hit, a.credits_charged, a.total_cost_micro_usd, a.cost, a.model_used, a.steps,
                       a.percent, a.processing_duration_ms, a.created_at, a.updated_at, a.completed_at,
                       (SELECT coalesce(sum(l.amount), 0) FROM credit_ledger l
                        WHERE l.run_id = a.run_id AND l.transaction_type = 'refund') AS credits_refunded
                FROM analyses a WHERE a.run_id = $1 AND a.deleted_at IS NULL AND ($2 IS NULL OR a.account_id = $2)) r))";
        self.call(claims, sql, &params![run_id, account]).await
    }

    /// Cancels a run and refunds it, or keeps its charge; only one of `account`, if it is given. `accepted` is the input of a run that was
    /// accepted and may not be admitted yet.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn cancel(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        run_id: &RunId,
        accepted: Option<&Run>,
    ) -> Result<Cancellation, DbError> {
        self.call(claims, "SELECT cancel_analysis($1, $2, $3)", &params![run_id, accepted.map(Json), account]).await
    }
}
