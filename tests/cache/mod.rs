//! The profile cache: which entries serve an analysis, and the three endpoints of the cache.

mod analyses;
mod checks;
mod drops;
mod numbers;

use crate::harness::{Account, Ended, Value, json};

/// Returns the entry with an age of `seconds`.
fn aged(entry: &Value, seconds: i64) -> Value {
    let mut entry = entry.clone();
    entry["scraped_at"] = json!((jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string());
    entry
}

/// Whether an entry was written by a scrape just now.
fn is_fresh(entry: &Value) -> bool {
    let scraped_at: jiff::Timestamp = entry["scraped_at"].as_str().unwrap().parse().unwrap();
    entry["version"] == 1 && entry["depth"] == 12 && jiff::Timestamp::now().duration_since(scraped_at).as_secs() < 600
}

impl Account {
    /// Analyzes a handle and returns its lead.
    async fn lead(&self, handle: &str) -> String {
        let ended: Ended = self.run(handle, "light").await;
        assert_eq!(ended.status(), "completed", "{}", ended.progress);
        let result = self.result(&ended.run_id).await.data(200);
        result["lead_id"].as_str().expect("a lead").to_owned()
    }

    /// Creates a lead of a handle that cannot be analyzed now.
    async fn old_lead(&self, handle: &str, is_private: bool) -> String {
        let sql = "INSERT INTO leads (account_id, business_profile_id, username, follower_count, bio, is_private)
                   VALUES ($1::text::uuid, $2::text::uuid, $3, 1000, 'coffee', $4) RETURNING id::text";
        self.world.db.value(sql, &[&self.id, &self.business_profile_id, &handle, &is_private]).await.expect("a lead")
    }

    async fn refresh_check(&self, lead: &str) -> crate::harness::Answer {
        self.post(&format!("/api/leads/{lead}/refresh-check"), &json!({})).await
    }

    async fn force_refresh(&self, lead: &str) -> crate::harness::Answer {
        self.post(&format!("/api/leads/{lead}/force-refresh"), &json!({})).await
    }

    /// Returns the recorded costs of the account, with a run or without.
    async fn vendor_costs(&self) -> i64 {
        let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE account_id = $1::text::uuid";
        self.world.db.value(sql, &[&self.id]).await.expect("a sum")
    }

    /// Returns the recorded statuses of the scrapes without a run.
    async fn recorded_checks(&self) -> Vec<String> {
        let sql = "SELECT status FROM ai_usage_logs WHERE account_id = $1::text::uuid AND run_id IS NULL AND provider = 'apify'
                   AND api_call_type = 'scrape' ORDER BY created_at";
        self.world.db.rows(sql, &[&self.id]).await.iter().map(|row| row.get(0)).collect()
    }
}
