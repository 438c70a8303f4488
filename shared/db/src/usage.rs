//! Metrics of ended runs and of ledger entries, and the comparison of ledger and balances.

use oslira_domain::{AccountId, BusinessProfileId, FailureCode, RunId, RunStatus, StepTiming, Tier};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use crate::error::DbError;
use crate::params::params;
use crate::session::AdminDb;

/// Metrics that were taken from the outbox to be published.
#[derive(Debug, Deserialize)]
pub struct TakenMetrics {
    /// How many were taken: fewer than the limit when there are no more.
    pub taken: u64,
    /// Runs that ended.
    #[serde(deserialize_with = "readable")]
    pub runs: Vec<EndedRun>,
    /// Entries of the ledger.
    #[serde(deserialize_with = "readable")]
    pub entries: Vec<LedgerEntry>,
}

/// A run that ended, and its cost.
#[derive(Debug, Deserialize)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Its account.
    pub account_id: AccountId,
    /// Its business; `None` if that is deleted.
    pub business_profile_id: Option<BusinessProfileId>,
    /// Its tier.
    pub analysis_type: Tier,
    /// How it ended.
    pub status: RunStatus,
    /// Why, if it failed.
    pub error_code: Option<FailureCode>,
    /// Whether its profile came from the cache.
    pub cache_hit: bool,
    /// The charge, refunded or not.
    pub credits_charged: i32,
    /// The charge, if it was not refunded.
    pub credits_kept: i32,
    /// The cost of its vendor calls, in micro-USD.
    pub total_micro_usd: i64,
    /// Apify's part.
    pub apify_micro_usd: i64,
    /// `OpenAI`'s part.
    pub openai_micro_usd: i64,
    /// Anthropic's part.
    pub anthropic_micro_usd: i64,
    /// From the request to the end; in a batch, from the run's own start.
    pub duration_ms: i64,
    /// The steps with their times.
    pub steps: Vec<StepTiming>,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
}

/// An entry of the ledger.
#[derive(Debug, Deserialize)]
pub struct LedgerEntry {
    /// Its account.
    pub account_id: AccountId,
    /// The run that was charged or refunded.
    pub run_id: Option<RunId>,
    /// Its type. A text, so that a type which a later version has added is published too.
    pub transaction_type: String,
    /// The credits: negative for a debit.
    pub amount: i32,
    /// The balance afterwards.
    pub balance_after: i32,
    /// The tier of the run.
    pub analysis_type: Option<Tier>,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: u64,
}

/// The comparison of the ledger and balances of some accounts.
#[derive(Debug, Deserialize)]
pub struct Reconciled {
    /// How many accounts were compared.
    pub accounts: u64,
    /// The last of them, if there are more.
    pub next: Option<Uuid>,
    /// The number of faults.
    pub mismatches: u64,
    /// The first twenty of them.
    pub faults: Vec<Fault>,
}

/// A contradiction in the ledger and balances.
#[derive(Debug, Deserialize)]
pub struct Fault {
    /// What contradicts what.
    pub fault: String,
    /// The account, run, subscription or payment concerned.
    pub subject: String,
}

/// Reads the metrics that this version understands. After a rollback some may have values that the later version has added. All of them are
/// taken already, so one that cannot be read must not lose the others.
fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(metrics: D) -> Result<Vec<T>, D::Error> {
    let metrics = Vec::<Value>::deserialize(metrics)?;
    let read = |metric| serde_json::from_value(metric).inspect_err(|error| tracing::warn!(%error, "a metric cannot be published")).ok();
    Ok(metrics.into_iter().filter_map(read).collect())
}

impl AdminDb {
    /// Takes up to `limit` metrics out of the outbox, oldest first, for the caller alone to publish. A second call with the same `taker`
    /// within five minutes returns the same ones: the first response may have been lost.
    ///
    /// # Errors
    /// As any statement.
    pub async fn take_metrics(&self, limit: u32, taker: Uuid) -> Result<TakenMetrics, DbError> {
        self.call("SELECT take_metrics($1, $2)", &params![limit, taker]).await
    }

    /// Counts the metrics in the outbox that are not taken yet.
    ///
    /// # Errors
    /// As any statement.
    pub async fn count_metrics(&self) -> Result<u64, DbError> {
        self.call("SELECT to_jsonb(count_metrics())", &[]).await
    }

    /// Compares ledger and balances of the next `limit` accounts after the one named, by id.
    ///
    /// # Errors
    /// As any statement.
    pub async fn reconcile(&self, after: Option<Uuid>, limit: u32) -> Result<Reconciled, DbError> {
        self.call("SELECT reconcile($1, $2)", &params![after, limit]).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_metric_of_a_later_version_does_not_lose_the_others() {
        let entry = |kind: &str, amount: Value| {
            json!({ "account_id": Uuid::nil(), "run_id": null, "transaction_type": kind, "amount": amount, "balance_after": 1,
                    "analysis_type": null, "at_ms": 1 })
        };
        let taken = json!({ "taken": 3, "runs": [{ "run_id": "of another shape" }],
                            "entries": [entry("purchase", json!(1)), entry("gift", json!("many")), entry("analysis", json!(-1))] });
        let metrics: TakenMetrics = serde_json::from_value(taken).unwrap();
        let read: Vec<_> = metrics.entries.iter().map(|entry| &*entry.transaction_type).collect();
        assert_eq!((metrics.taken, metrics.runs.len(), read), (3, 0, vec!["purchase", "analysis"]));
    }
}
