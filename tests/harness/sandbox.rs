//! Telling the stand-ins for third parties what to do, and asking them what was done.

use serde_json::{Value, json};

use super::World;

impl World {
    fn control(&self, path: &str) -> String {
        format!("{}/_control/{path}", self.stack.info().sandbox)
    }

    async fn controlled(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request.send().await.expect("the sandbox answers");
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert!(status.is_success(), "{status} {body}");
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// Makes `vendor` fail for requests that mention `text` (a handle), `times` or until removed.
    pub async fn fault(&self, vendor: &str, text: &str, times: Option<u32>, fault: Value) {
        let mut rule = json!({ "vendor": vendor, "match": text, "fault": fault });
        if let Some(times) = times {
            rule["times"] = json!(times);
        }
        self.controlled(self.http.post(self.control("faults")).json(&rule)).await;
    }

    /// A fault with everything that a rule can say.
    pub async fn fault_rule(&self, rule: Value) {
        self.controlled(self.http.post(self.control("faults")).json(&rule)).await;
    }

    /// Makes a model answer slowly for requests that mention `text`.
    pub async fn slow_model(&self, vendor: &str, text: &str, ms: u64) {
        self.controlled(self.http.post(self.control("latency")).json(&json!({ "vendor": vendor, "match": text, "ms": ms }))).await;
    }

    /// Makes Actor runs that fetch `text` slow.
    pub async fn slow_scrape(&self, text: &str, ms: u64) {
        let rule = json!({ "vendor": "apify", "match": text, "start_ms": ms, "per_profile_ms": 0 });
        self.controlled(self.http.post(self.control("latency")).json(&rule)).await;
    }

    /// Makes Actor runs that fetch `text` take so long to start, and for each profile.
    pub async fn slow_scrape_by(&self, text: &str, start_ms: u64, per_profile_ms: u64) {
        let rule = json!({ "vendor": "apify", "match": text, "start_ms": start_ms, "per_profile_ms": per_profile_ms });
        self.controlled(self.http.post(self.control("latency")).json(&rule)).await;
    }

    /// What vendors were asked about `text`, in order.
    pub async fn calls(&self, vendor: &str, text: &str) -> Vec<Value> {
        let calls = self.controlled(self.http.get(self.control(&format!("calls?vendor={vendor}&match={text}")))).await;
        calls.as_array().expect("a list").clone()
    }

    /// The raw body of a call.
    pub async fn call_body(&self, call: &Value) -> String {
        let id = call["id"].as_str().map_or_else(|| call["id"].to_string(), ToOwned::to_owned);
        let response = self.http.get(self.control(&format!("calls/{id}/body"))).send().await.expect("the sandbox answers");
        response.text().await.expect("a body")
    }

    /// What vendors charged for requests about `text`, in micro-USD.
    pub async fn bill(&self, text: &str) -> i64 {
        let bill = self.controlled(self.http.get(self.control(&format!("bill?match={text}")))).await;
        bill["total_micro_usd"].as_i64().expect("a total")
    }

    /// What one vendor charged for requests about `text`, in micro-USD.
    pub async fn bill_of(&self, vendor: &str, text: &str) -> i64 {
        let bill = self.controlled(self.http.get(self.control(&format!("bill?vendor={vendor}&match={text}")))).await;
        bill["total_micro_usd"].as_i64().expect("a total")
    }

    /// A token that the sandbox's Supabase signs.
    pub async fn token(&self, request: Value) -> String {
        let token = self.controlled(self.http.post(self.control("token")).json(&request)).await;
        token["access_token"].as_str().expect("a token").to_owned()
    }

    /// A token as an attacker would make it.
    pub async fn attack_token(&self, user_id: &str, kind: &str) -> String {
        let request = json!({ "sub": user_id, "kind": kind });
        let token = self.controlled(self.http.post(self.control("attack_token")).json(&request)).await;
        token["access_token"].as_str().expect("a token").to_owned()
    }
}
