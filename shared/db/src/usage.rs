//! What is told as metrics, and whether the books are true.

use oslira_domain::{AccountId, BusinessProfileId, FailureCode, RunId, RunStatus, StepTiming, Tier};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::DbError;
use crate::session::{AdminDb, Param};

/// Facts that were not told yet.
#[derive(Debug, Deserialize)]
pub struct Untold {
    /// How many were taken: fewer than asked for when there are no more.
    pub taken: u64,
    /// Runs that ended.
    #[serde(deserialize_with = "readable")]
    pub runs: Vec<EndedRun>,
    /// Entries of the ledger.
    #[serde(deserialize_with = "readable")]
    pub entries: Vec<LedgerEntry>,
}

/// A run that ended, and what it cost.
#[derive(Debug, Deserialize)]
pub struct EndedRun {
    /// Which.
    pub run_id: RunId,
    /// Whose.
    pub account_id: AccountId,
    /// For which business; `None` if that is gone.
    pub business_profile_id: Option<BusinessProfileId>,
    /// How deep.
    pub analysis_type: Tier,
    /// How it ended.
    pub status: RunStatus,
    /// Why, if it failed.
    pub error_code: Option<FailureCode>,
    /// Whether its profile came from the cache.
    pub cache_hit: bool,
    /// What was charged, refunded or not.
    pub credits_charged: i32,
    /// What was charged and not refunded.
    pub credits_kept: i32,
    /// What its vendors cost, in micro-USD.
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
    /// Whose.
    pub account_id: AccountId,
    /// The run that was charged or refunded.
    pub run_id: Option<RunId>,
    /// Why credits moved.
    pub transaction_type: String,
    /// How many: negative for a debit.
    pub amount: i32,
    /// The balance afterwards.
    pub balance_after: i32,
    /// How deep the run was.
    pub analysis_type: Option<Tier>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A part of the books, compared.
#[derive(Debug, Deserialize)]
pub struct Reconciled {
    /// How many accounts it has.
    pub accounts: u64,
    /// The last of them, if there are more.
    pub next: Option<Uuid>,
    /// How many things in it must never be.
    pub mismatches: u64,
    /// The first twenty of them.
    pub faults: Vec<Fault>,
}

/// Something in the books that cannot be.
#[derive(Debug, Deserialize)]
pub struct Fault {
    /// What is wrong.
    pub fault: String,
    /// The account, run, subscription or payment.
    pub subject: String,
}

/// The facts that this version can read. After a rollback there may be some in words that the later version has added: they are taken
/// already, so one of them must not cost the others.
fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(facts: D) -> Result<Vec<T>, D::Error> {
    let facts = Vec::<Value>::deserialize(facts)?;
    let fact = |fact| serde_json::from_value(fact).inspect_err(|error| tracing::warn!(%error, "a fact cannot be told")).ok();
    Ok(facts.into_iter().filter_map(fact).collect())
}

fn limited(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

impl AdminDb {
    /// Takes up to `limit` facts that were not told yet, oldest first. Whoever takes them tells them: nobody else will. The same `taker`,
    /// which did not hear the answer, gets the same ones again for five minutes.
    ///
    /// # Errors
    /// As any statement.
    pub async fn take_metrics(&self, limit: u32, taker: Uuid) -> Result<Untold, DbError> {
        self.document("SELECT take_metrics($1, $2)", &[(&limited(limit), Type::INT4), (&taker, Type::UUID)]).await
    }

    /// How many facts were not told yet.
    ///
    /// # Errors
    /// As any statement.
    pub async fn count_metrics(&self) -> Result<u64, DbError> {
        self.document::<Value>("SELECT to_jsonb(count_metrics())", &[]).await.map(|count| count.as_u64().unwrap_or_default())
    }

    /// Compares the books of the next `limit` accounts after the one named, by id.
    ///
    /// # Errors
    /// As any statement.
    pub async fn reconcile(&self, after: Option<Uuid>, limit: u32) -> Result<Reconciled, DbError> {
        let params: [Param<'_>; 2] = [(&after, Type::UUID), (&limited(limit), Type::INT4)];
        self.document("SELECT reconcile($1, $2)", &params).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fact_in_words_of_a_later_version_does_not_cost_the_others() {
        let entry = |kind: &str, amount: Value| {
            json!({ "account_id": Uuid::nil(), "run_id": null, "transaction_type": kind, "amount": amount, "balance_after": 1,
                    "analysis_type": null, "at_ms": 1 })
        };
        let taken = json!({ "taken": 3, "runs": [{ "run_id": "of another shape" }],
                            "entries": [entry("purchase", json!(1)), entry("gift", json!("many")), entry("analysis", json!(-1))] });
        let untold: Untold = serde_json::from_value(taken).unwrap();
        let told: Vec<_> = untold.entries.iter().map(|entry| &*entry.transaction_type).collect();
        assert_eq!((untold.taken, untold.runs.len(), told), (3, 0, vec!["purchase", "analysis"]));
    }
}
