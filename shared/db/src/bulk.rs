//! Batches: runs that were requested together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oslira_domain::{AccountId, BatchId, BusinessProfileId, FailureCode, Run, RunId, RunStatus, Tier, Username};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;

use crate::error::DbError;
use crate::idempotency::{Claim, Key};
use crate::params::params;
use crate::runs::RefundedCost;
use crate::session::{AdminDb, Claims, UserDb};
use crate::workflow::VendorCall;

/// What decides whether a batch may start.
#[derive(Debug, Deserialize)]
pub struct BulkPrecheck {
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
    /// The live runs of the handles, by handle.
    pub running: BTreeMap<String, RunId>,
    /// What an earlier request with the same idempotency key leaves to do. Open while it has no response.
    pub claim: Option<Claim>,
}

/// A run to be recorded.
#[derive(Debug, Clone, Serialize)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunId,
    /// Its handle.
    pub username: Username,
}

/// A batch to be recorded.
#[derive(Debug)]
pub struct NewBatch<'a> {
    /// Its id, unless the key already stands for another.
    pub batch_id: &'a BatchId,
    /// The account that pays.
    pub account_id: AccountId,
    /// The business that the leads are judged for.
    pub business_profile_id: BusinessProfileId,
    /// The tier of every run.
    pub tier: Tier,
    /// One to a hundred runs, each of another handle.
    pub runs: &'a [NewRun],
    /// The idempotency key of the request.
    pub key: Option<Key<'a>>,
}

/// How the recording of a batch ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BatchCreation {
    /// It is recorded, by this request or an earlier one with the same key.
    Created(CreatedBatch),
    /// The caller has no such account.
    NoAccount,
    /// The caller may not spend for it.
    Forbidden,
    /// The business profile is not the account's, or gone.
    NoProfile,
    /// A payment of the account is disputed.
    Suspended,
    /// The balance does not pay for one run.
    Insufficient {
        /// The balance.
        available: i32,
    },
    /// The account has recorded too many runs within the hour.
    TooMany,
    /// Every handle has a live run.
    Duplicates {
        /// The live runs, by handle.
        running: BTreeMap<String, RunId>,
    },
    /// The key stands for another request, or the first request with it is done or still being processed.
    KeyClaimed {
        /// The claim of that request.
        claim: Claim,
    },
}

/// A recorded batch.
#[derive(Debug, Deserialize)]
pub struct CreatedBatch {
    /// Its id.
    pub batch_id: BatchId,
    /// The account's balance.
    pub available: i32,
    /// Its runs.
    pub runs: Vec<CreatedRun>,
    /// Other live runs of the handles, by handle.
    pub running: BTreeMap<String, RunId>,
}

/// A recorded run of a batch.
#[derive(Debug, Deserialize)]
pub struct CreatedRun {
    /// Its id.
    pub run_id: RunId,
    /// Its handle.
    pub username: Username,
    /// Its status.
    pub status: RunStatus,
}

/// How far a batch is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub struct Batch {
    batch_id: BatchId,
    analysis_type: Tier,
    /// The number of its runs.
    pub total_count: i64,
    /// How many of them have ended, in percent.
    overall_progress: i64,
    /// Whether all of them have ended.
    pub is_complete: bool,
    /// How many runs have each status.
    pub status_counts: StatusCounts,
    /// The charges of its runs less their refunds.
    credits_charged: i64,
    /// What its vendor calls cost.
    cost_micro_usd: i64,
    /// Its runs.
    pub analyses: Vec<BatchRun>,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
    /// The same in a sentence. The endpoint writes it.
    #[serde(default)]
    pub message: String,
}

/// The number of runs of each status.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StatusCounts {
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
}

/// A run of a batch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct BatchRun {
    username: Username,
    run_id: RunId,
    status: RunStatus,
    /// 0 to 100.
    progress: i64,
    is_complete: bool,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    overall_score: Option<i64>,
    progress_url: String,
    /// Why it failed, with a sentence. The endpoint writes it.
    #[serde(default)]
    pub error: Option<RunError>,
}

/// Why a run failed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    code: FailureCode,
    message: String,
}

impl From<FailureCode> for RunError {
    fn from(code: FailureCode) -> Self {
        Self { code, message: code.message().to_owned() }
    }
}

/// How the cancellation of a batch ended.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BatchCancellation {
    /// None of its runs is live.
    Cancelled(CancelledBatch),
    /// The caller sees no such batch.
    NotFound,
    /// The caller may not cancel its runs.
    Forbidden,
}

/// A batch without live runs.
#[derive(Debug, Deserialize)]
pub struct CancelledBatch {
    /// How many runs this call cancelled.
    pub newly: i64,
    /// The number of its runs.
    pub total: i64,
    /// How many of them are cancelled, by this call or an earlier one.
    pub cancelled: i64,
    /// How many had completed.
    pub completed: i64,
    /// How many had failed.
    pub failed: i64,
    /// The charges of cancelled runs that were refunded.
    pub credits_refunded: i64,
    /// The charges of cancelled runs that were kept.
    pub credits_kept: i64,
    /// What the account's cancelled runs cost.
    pub refunded_cost: RefundedCost,
    /// The cancelled runs that may have an execution.
    pub begun: Vec<RunId>,
}

/// A run of a group that waits to be started.
#[derive(Debug, Clone, Deserialize)]
pub struct WaitingRun {
    /// Its input.
    pub run: Run,
    /// The Actor run that fetches its profile, once there is one.
    pub scrape_run_id: Option<String>,
}

impl UserDb {
    /// Reads everything that decides about a batch. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn bulk_precheck(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        business_profile: BusinessProfileId,
        usernames: &[Username],
        key: Option<Key<'_>>,
    ) -> Result<Option<BulkPrecheck>, DbError> {
        let sql = "SELECT jsonb_build_object('account_id', c.account_id, 'can_spend', c.can_spend,
                'available', coalesce(b.current_balance, 0), 'disputed', b.disputed_since IS NOT NULL,
                'business_profile_exists', EXISTS (SELECT 1 FROM business_profiles p
                    WHERE p.id = $2 AND p.account_id = c.account_id AND p.deleted_at IS NULL),
                'running', coalesce((SELECT jsonb_object_agg(a.username, a.run_id) FROM analyses a
                    WHERE a.account_id = c.account_id AND a.business_profile_id = $2 AND a.username = ANY ($3)
                      AND a.status IN ('pending', 'processing') AND NOT run_is_stuck(a.status, a.batch_id, a.last_step_at)), '{}'),
                'claim', (SELECT jsonb_build_object('work_id', k.work_id, 'answer', k.answer, 'outcome',
                        CASE WHEN k.request_hash <> $5 THEN 'mismatch' WHEN k.answer IS NOT NULL THEN 'replay' ELSE 'claimed' END)
                    FROM idempotency_keys k
                    WHERE k.account_id = c.account_id AND k.user_id = (SELECT auth.uid()) AND k.key = $4
                      AND k.created_at > now() - interval '24 hours'))
            FROM caller_account($1) c LEFT JOIN credit_balances b ON b.account_id = c.account_id";
        let (name, hash) = (key.map(|key| key.name), key.map(|key| key.request_hash));
        self.call(claims, sql, &params![account, business_profile, usernames, name, hash]).await
    }

    /// Records the runs of a batch as pending and claims the request's key, in one transaction.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn create_batch(&self, claims: &Claims, batch: &NewBatch<'_>) -> Result<BatchCreation, DbError> {
        let NewBatch { batch_id, account_id, business_profile_id, tier, runs, key } = *batch;
        let (name, hash) = (key.map(|key| key.name), key.map(|key| key.request_hash));
        let sql = "SELECT create_bulk_analyses($1, $2, $3, $4, $5, $6, $7)";
        self.call(claims, sql, &params![account_id, business_profile_id, tier, batch_id, Json(runs), name, hash]).await
    }

    /// Reads a batch, counted from its runs. `None` for one that the caller may not see.
    ///
    /// # Errors
    /// As any statement.
    pub async fn batch(&self, claims: &Claims, account: Option<AccountId>, batch_id: &BatchId) -> Result<Option<Batch>, DbError> {
        let sql = "SELECT jsonb_build_object('batch_id', $1, 'analysis_type', min(a.analysis_type), 'total_count', count(*),
                'overall_progress', 100 * count(*) FILTER (WHERE a.status IN ('completed', 'failed', 'cancelled')) / count(*),
                'is_complete', bool_and(a.status IN ('completed', 'failed', 'cancelled')),
                'status_counts', jsonb_build_object(
                    'pending', count(*) FILTER (WHERE a.status = 'pending'), 'processing', count(*) FILTER (WHERE a.status = 'processing'),
                    'completed', count(*) FILTER (WHERE a.status = 'completed'), 'failed', count(*) FILTER (WHERE a.status = 'failed'),
                    'cancelled', count(*) FILTER (WHERE a.status = 'cancelled')),
                'credits_charged', coalesce(sum(a.credits_charged) FILTER (WHERE a.status IN ('processing', 'completed')), 0),
                'cost_micro_usd', coalesce(sum(a.total_cost_micro_usd), 0),
                'analyses', jsonb_agg(jsonb_build_object(
                    'username', a.username, 'run_id', a.run_id, 'status', a.status,
                    'progress', CASE WHEN a.status = 'completed' THEN 100 ELSE a.percent END,
                    'is_complete', a.status IN ('completed', 'failed', 'cancelled'), 'error_code', a.error_code,
                    'overall_score', a.overall_score, 'progress_url', '/api/analysis/' || a.run_id || '/progress') ORDER BY a.run_id),
                'created_at', min(a.created_at), 'completed_at',
                    CASE WHEN bool_and(a.completed_at IS NOT NULL) THEN max(a.completed_at) END)
            FROM analyses a
            WHERE a.batch_id = $1 AND a.deleted_at IS NULL AND ($2::uuid IS NULL OR a.account_id = $2)
            HAVING count(*) > 0";
        self.call(claims, sql, &params![batch_id, account]).await
    }

    /// Cancels the live runs of a batch, each with its refund or keeping its charge.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn cancel_batch(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        batch_id: &BatchId,
    ) -> Result<BatchCancellation, DbError> {
        self.call(claims, "SELECT cancel_batch($1, $2)", &params![batch_id, account]).await
    }
}

impl AdminDb {
    /// Returns the runs of a group that still wait to be started, in the order of the request, after ending those that cannot be.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_group(&self, batch_id: &BatchId, run_ids: &[RunId]) -> Result<Vec<WaitingRun>, DbError> {
        self.call("SELECT begin_bulk_group($1, $2)", &params![batch_id, run_ids]).await
    }

    /// Records which Actor run fetches the profiles of these runs (or, with `None`, that none does), where `replaces` is the one recorded
    /// so far. Returns the Actor run to wait for; `None` when none of the runs waits any longer.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_group_scrape_run(
        &self,
        batch_id: &BatchId,
        run_ids: &[RunId],
        scrape_run_id: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        let sql = "SELECT to_jsonb(record_group_scrape_run($1, $2, $3, $4))";
        self.call(sql, &params![batch_id, run_ids, scrape_run_id, replaces]).await
    }

    /// Records the cost of the Actor run that was started for these runs, in equal shares, once.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_group_scrape_cost(&self, batch_id: &BatchId, run_ids: &[RunId], call: &VendorCall) -> Result<(), DbError> {
        self.execute("SELECT record_group_scrape_cost($1, $2, $3)", &params![batch_id, run_ids, Json(call)]).await
    }

    /// Fails those of the runs that were not admitted, uncharged. Returns how many.
    ///
    /// # Errors
    /// As any statement.
    pub async fn fail_pending(&self, batch_id: &BatchId, run_ids: &[RunId], code: FailureCode) -> Result<i32, DbError> {
        self.call("SELECT to_jsonb(fail_pending_runs($1, $2, $3))", &params![batch_id, run_ids, code]).await
    }
}
