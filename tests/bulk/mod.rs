//! Bulk analyses: requests, the end of each handle, and interruptions.

mod interruptions;
mod measured;
mod reasons;
mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Account, Answer, Value, json, until};

const TIMEOUT: Duration = Duration::from_mins(8);

/// A batch that was accepted.
pub struct Batch {
    account: Account,
    id: String,
    started: Value,
}

impl Account {
    /// Requests analyses of many handles.
    async fn bulk(&self, handles: &[String], tier: &str) -> Answer {
        self.bulk_with_key(handles, tier, None).await
    }

    async fn bulk_with_key(&self, handles: &[String], tier: &str, key: Option<&str>) -> Answer {
        let body = json!({ "usernames": handles, "businessProfileId": self.business_profile_id, "analysisType": tier });
        let request = self.world.http.post(self.world.url("/api/leads/analyze/bulk")).bearer_auth(&self.token).json(&body);
        self.world.send(key.into_iter().fold(request, |request, key| request.header("idempotency-key", key))).await
    }

    /// Requests a batch that must be accepted.
    async fn start_batch(&self, handles: &[String], tier: &str) -> Batch {
        let started = self.bulk(handles, tier).await.data(202);
        let id = started["batch_id"].as_str().expect("a batch id").to_owned();
        Batch { account: self.clone(), id, started }
    }

    /// Counts the ledger entries of a type.
    async fn count_entries(&self, kind: &str) -> i64 {
        let sql = "SELECT count(*) FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2";
        self.world.db.value(sql, &[&self.id, &kind]).await.expect("a count")
    }

    /// Returns the recorded cost of the vendor calls of its runs, in micro-USD.
    async fn recorded_cost(&self, provider: &str) -> i64 {
        let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE account_id = $1::text::uuid AND provider = $2";
        self.world.db.value(sql, &[&self.id, &provider]).await.expect("a sum")
    }
}

impl Batch {
    async fn progress(&self) -> Value {
        self.account.get(&format!("/api/leads/analyze/bulk/{}/progress", self.id)).await.data(200)
    }

    async fn cancel(&self) -> Answer {
        self.account.post(&format!("/api/leads/analyze/bulk/{}/cancel", self.id), &json!({})).await
    }

    /// Counts the runs with one of these statuses.
    async fn count(&self, states: &[&str]) -> i64 {
        let sql = "SELECT count(*) FROM analyses WHERE batch_id = $1 AND status = ANY ($2)";
        self.account.world.db.value(sql, &[&self.id, &states]).await.expect("a count")
    }

    /// Waits until every run has ended. Returns the progress.
    async fn ended(&self) -> Value {
        until("the end of the batch", TIMEOUT, || async { (self.count(&["pending", "processing"]).await == 0).then_some(()) }).await;
        let progress = self.progress().await;
        assert_eq!((&progress["is_complete"], &progress["overall_progress"]), (&json!(true), &json!(100)), "{progress}");
        progress
    }

    /// Returns how each handle ended: `completed`, `cancelled`, or the code of its failure.
    fn endings(progress: &Value) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let end = |run: &Value| if run["status"] == "failed" { text(&run["error"]["code"]) } else { text(&run["status"]) };
        progress["analyses"].as_array().expect("runs").iter().map(|run| (text(&run["username"]), end(run))).collect()
    }

    /// Returns the run ids by handle.
    fn runs(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let entries = self.started["analyses"].as_array().expect("entries").iter();
        entries.filter_map(|entry| Some((text(&entry["username"])?, text(&entry["run_id"])?))).collect()
    }

    /// Returns the message of a group with all of its runs, as the endpoint sends it.
    fn message(&self) -> String {
        json!({ "batch_id": self.id, "run_ids": self.runs().values().collect::<Vec<_>>() }).to_string()
    }
}
