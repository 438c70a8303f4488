//! Batches: runs that were asked for together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oslira_domain::{AccountId, BatchId, BusinessProfileId, FailureCode, Run, RunId, RunStatus, Tier, Username};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::types::{Json, Type};

use crate::error::DbError;
use crate::session::{AdminDb, Claims, Param, UserDb};
use crate::workflow::VendorCall;

/// What decides whether a batch may start.
#[derive(Debug)]
pub struct BulkPrecheck {
    /// The account that will pay.
    pub account_id: AccountId,
    /// Whether the caller may spend its credits.
    pub can_spend: bool,
    /// Its balance.
    pub available: i32,
    /// Whether the business profile is the account's and live.
    pub business_profile_exists: bool,
    /// The live runs of the handles, by handle.
    pub running: BTreeMap<String, RunId>,
    /// The request that used the same idempotency key.
    pub key: Option<ClaimedKey>,
}

/// A request with the same idempotency key.
#[derive(Debug, Deserialize)]
pub struct ClaimedKey {
    /// Of that request.
    pub request_hash: String,
    /// Its answer; `None` while it is at work, or if it died.
    pub answer: Option<String>,
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
    /// Its id, unless the key stands for another already.
    pub batch_id: &'a BatchId,
    /// The account that pays.
    pub account_id: AccountId,
    /// For which business.
    pub business_profile_id: BusinessProfileId,
    /// How deep.
    pub tier: Tier,
    /// One to a hundred, each handle once.
    pub runs: &'a [NewRun],
    /// The idempotency key and the hash of its request.
    pub key: Option<(&'a str, &'a str)>,
}

/// What became of a batch to be recorded.
#[derive(Debug, Deserialize)]
pub struct BatchCreation {
    /// `created`, `no_account`, `forbidden`, `no_profile`, `insufficient`, `too_many`, `duplicates`, or of a key: `replay`, `mismatch`,
    /// `in_progress`.
    pub outcome: String,
    /// The batch: an earlier request with the same key may have made it.
    pub batch_id: Option<BatchId>,
    /// The account's balance.
    #[serde(default)]
    pub available: i32,
    /// The recorded runs.
    #[serde(default)]
    pub runs: Vec<CreatedRun>,
    /// Other live runs of the handles, by handle.
    #[serde(default)]
    pub running: BTreeMap<String, RunId>,
    /// The first answer, to be repeated.
    pub answer: Option<String>,
}

/// A recorded run of a batch.
#[derive(Debug, Deserialize)]
pub struct CreatedRun {
    /// Its id.
    pub run_id: RunId,
    /// Its handle.
    pub username: Username,
    /// Where it is by now.
    pub status: RunStatus,
}

/// How far a batch is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub struct Batch {
    batch_id: BatchId,
    analysis_type: Tier,
    /// How many runs it has.
    pub total_count: i64,
    /// How many of them have ended, in percent.
    overall_progress: i64,
    /// Whether all of them have.
    pub is_complete: bool,
    /// How many are where.
    pub status_counts: StatusCounts,
    /// What its runs are charged with, less what was given back.
    credits_charged: i64,
    /// What vendors were paid for it.
    cost_micro_usd: i64,
    /// Its runs.
    pub analyses: Vec<BatchRun>,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
    /// The same in a sentence, by whoever shows it.
    #[serde(default)]
    pub message: String,
}

/// How many runs are where.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the words say it")]
pub struct StatusCounts {
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
}

/// A run of a batch, in short.
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
    /// Why it failed in words, by whoever shows it.
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

/// What became of the cancellation of a batch.
#[derive(Debug, Deserialize)]
pub struct BatchCancellation {
    /// `cancelled`, `not_found` or `forbidden`.
    pub outcome: String,
    /// How many runs this call ended.
    #[serde(default)]
    pub newly: i64,
    /// How many runs there are.
    #[serde(default)]
    pub total: i64,
    /// How many of them are cancelled, now or before.
    #[serde(default)]
    pub cancelled: i64,
    /// How many had completed.
    #[serde(default)]
    pub completed: i64,
    /// How many had failed.
    #[serde(default)]
    pub failed: i64,
    /// What all that are cancelled had been charged and got back.
    #[serde(default)]
    pub credits_refunded: i64,
    /// The cancelled runs whose execution may be under way.
    #[serde(default)]
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
    /// Everything that decides about a batch, in one read. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn bulk_precheck(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        business_profile: BusinessProfileId,
        usernames: &[Username],
        key: Option<&str>,
    ) -> Result<Option<BulkPrecheck>, DbError> {
        let usernames: Vec<&str> = usernames.iter().map(Username::as_str).collect();
        let params: [Param<'_>; 4] =
            [(&account.map(|id| id.0), Type::UUID), (&business_profile.0, Type::UUID), (&usernames, Type::TEXT_ARRAY), (&key, Type::TEXT)];
        let sql = "SELECT c.account_id, c.can_spend,
                coalesce((SELECT b.current_balance FROM credit_balances b WHERE b.account_id = c.account_id), 0) AS available,
                EXISTS (SELECT 1 FROM business_profiles p WHERE p.id = $2 AND p.account_id = c.account_id AND p.deleted_at IS NULL) AS profile,
                coalesce((SELECT jsonb_object_agg(a.username, a.run_id) FROM analyses a
                    WHERE a.account_id = c.account_id AND a.business_profile_id = $2 AND a.username = ANY ($3)
                      AND a.status IN ('pending', 'processing') AND NOT run_is_stuck(a.status, a.batch_id, a.last_step_at)), '{}') AS running,
                (SELECT to_jsonb(k) FROM idempotency_keys k WHERE k.account_id = c.account_id AND k.user_id = (SELECT auth.uid()) AND k.key = $4
                    AND k.created_at > now() - interval '24 hours') AS key
             FROM caller_account($1) c";
        let rows = self.query(claims, sql, &params).await?;
        rows.first()
            .map(|row| {
                Ok(BulkPrecheck {
                    account_id: AccountId(row.try_get("account_id")?),
                    can_spend: row.try_get("can_spend")?,
                    available: row.try_get("available")?,
                    business_profile_exists: row.try_get("profile")?,
                    running: row.try_get::<_, Json<BTreeMap<String, RunId>>>("running")?.0,
                    key: row.try_get::<_, Option<Json<ClaimedKey>>>("key")?.map(|key| key.0),
                })
            })
            .transpose()
    }

    /// Records a batch's runs as pending, together with the claim of its key.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn create_batch(&self, claims: &Claims, batch: &NewBatch<'_>) -> Result<BatchCreation, DbError> {
        let (key, hash) = batch.key.unzip();
        let runs = json!(batch.runs);
        let params: [Param<'_>; 7] = [
            (&batch.account_id.0, Type::UUID),
            (&batch.business_profile_id.0, Type::UUID),
            (&batch.tier.as_str(), Type::TEXT),
            (&batch.batch_id.as_str(), Type::TEXT),
            (&runs, Type::JSONB),
            (&key, Type::TEXT),
            (&hash, Type::TEXT),
        ];
        self.call(claims, "SELECT create_bulk_analyses($1, $2, $3, $4, $5, $6, $7)", &params).await
    }

    /// A batch as its account sees it, counted from its runs. `None` for one that is not the caller's.
    ///
    /// # Errors
    /// As any statement.
    pub async fn batch(&self, claims: &Claims, account: Option<AccountId>, batch_id: &BatchId) -> Result<Option<Batch>, DbError> {
        let params: [Param<'_>; 2] = [(&batch_id.as_str(), Type::TEXT), (&account.map(|id| id.0), Type::UUID)];
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
        let rows = self.query(claims, sql, &params).await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<Batch>>(0)?.0)).transpose()
    }

    /// Cancels and refunds what has not ended of a batch.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn cancel_batch(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        batch_id: &BatchId,
    ) -> Result<BatchCancellation, DbError> {
        let params: [Param<'_>; 2] = [(&batch_id.as_str(), Type::TEXT), (&account.map(|id| id.0), Type::UUID)];
        self.call(claims, "SELECT cancel_batch($1, $2)", &params).await
    }
}

fn texts(run_ids: &[RunId]) -> Vec<&str> {
    run_ids.iter().map(RunId::as_str).collect()
}

impl AdminDb {
    /// The runs of a group that still wait to be started, in the order of the request; those that cannot be are ended first.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_group(&self, batch_id: &BatchId, run_ids: &[RunId]) -> Result<Vec<WaitingRun>, DbError> {
        let params: [Param<'_>; 2] = [(&batch_id.as_str(), Type::TEXT), (&texts(run_ids), Type::TEXT_ARRAY)];
        let row = self.one("SELECT begin_bulk_group($1, $2)", &params).await?.ok_or_else(|| DbError::Unexpected("no row".to_owned()))?;
        Ok(row.try_get::<_, Json<Vec<WaitingRun>>>(0)?.0)
    }

    /// Remembers the Actor run that fetches these profiles (or forgets it, with `None`), where what is remembered so far is `replaces`.
    /// Answers which one to wait for; `None` when none of the runs waits any longer.
    ///
    /// # Errors
    /// As any statement.
    pub async fn remember_group_scrape(
        &self,
        batch_id: &BatchId,
        run_ids: &[RunId],
        scrape_run_id: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        let params: [Param<'_>; 4] =
            [(&batch_id.as_str(), Type::TEXT), (&texts(run_ids), Type::TEXT_ARRAY), (&scrape_run_id, Type::TEXT), (&replaces, Type::TEXT)];
        let row = self.one("SELECT record_group_scrape_run($1, $2, $3, $4)", &params).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Books the Actor run that was started for these runs, in equal shares, once.
    ///
    /// # Errors
    /// As any statement.
    pub async fn book_group_scrape(&self, batch_id: &BatchId, run_ids: &[RunId], call: &VendorCall) -> Result<(), DbError> {
        let call = json!(call);
        let params: [Param<'_>; 3] = [(&batch_id.as_str(), Type::TEXT), (&texts(run_ids), Type::TEXT_ARRAY), (&call, Type::JSONB)];
        self.one("SELECT record_group_scrape_cost($1, $2, $3)", &params).await.map(drop)
    }

    /// Fails those of the runs that were not admitted, uncharged. Answers how many.
    ///
    /// # Errors
    /// As any statement.
    pub async fn fail_pending(&self, batch_id: &BatchId, run_ids: &[RunId], code: FailureCode) -> Result<i32, DbError> {
        let params: [Param<'_>; 3] = [(&batch_id.as_str(), Type::TEXT), (&texts(run_ids), Type::TEXT_ARRAY), (&code.as_str(), Type::TEXT)];
        let row = self.one("SELECT fail_pending_runs($1, $2, $3)", &params).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
    }
}
