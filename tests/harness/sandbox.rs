//! The sandbox: injected faults and delays, the call log, the bill and tokens.

use serde_json::{Value, json};

use super::World;

impl World {
    fn control(&self, path: &str) -> String {
        format!("{}/_control/{path}", self.stack.info().sandbox)
    }

    async fn controlled(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request.send().await.expect("a response of the sandbox");
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert!(status.is_success(), "{status} {body}");
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// Makes calls to a vendor that mention `text` (a handle) fail, `times` times, or always if `None`.
    pub async fn fault(&self, vendor: &str, text: &str, times: Option<u32>, fault: Value) {
        let mut rule = json!({ "vendor": vendor, "match": text, "fault": fault });
        if let Some(times) = times {
            rule["times"] = json!(times);
        }
        self.controlled(self.http.post(self.control("faults")).json(&rule)).await;
    }

    /// Adds a rule that injects a fault.
    pub async fn fault_rule(&self, rule: Value) {
        self.controlled(self.http.post(self.control("faults")).json(&rule)).await;
    }

    /// Sets the duration of model calls that mention `text`.
    pub async fn slow_model(&self, vendor: &str, text: &str, ms: u64) {
        self.controlled(self.http.post(self.control("latency")).json(&json!({ "vendor": vendor, "match": text, "ms": ms }))).await;
    }

    /// Sets the duration of Actor runs that fetch `text`.
    pub async fn slow_scrape(&self, text: &str, ms: u64) {
        let rule = json!({ "vendor": "apify", "match": text, "start_ms": ms, "per_profile_ms": 0 });
        self.controlled(self.http.post(self.control("latency")).json(&rule)).await;
    }

    /// Sets the durations of the start of Actor runs that fetch `text`, and of each profile.
    pub async fn slow_scrape_by(&self, text: &str, start_ms: u64, per_profile_ms: u64) {
        let rule = json!({ "vendor": "apify", "match": text, "start_ms": start_ms, "per_profile_ms": per_profile_ms });
        self.controlled(self.http.post(self.control("latency")).json(&rule)).await;
    }

    /// Returns the calls to a vendor that mention `text`, in order.
    pub async fn calls(&self, vendor: &str, text: &str) -> Vec<Value> {
        let calls = self.controlled(self.http.get(self.control(&format!("calls?vendor={vendor}&match={text}")))).await;
        calls.as_array().expect("a list").clone()
    }

    /// Returns the raw request body of a call.
    pub async fn call_body(&self, call: &Value) -> String {
        let id = call["id"].as_str().map_or_else(|| call["id"].to_string(), ToOwned::to_owned);
        let response = self.http.get(self.control(&format!("calls/{id}/body"))).send().await.expect("a response of the sandbox");
        response.text().await.expect("a body")
    }

    /// Returns the price of all calls that mention `text`, in micro-USD.
    pub async fn bill(&self, text: &str) -> i64 {
        let bill = self.controlled(self.http.get(self.control(&format!("bill?match={text}")))).await;
        bill["total_micro_usd"].as_i64().expect("a total")
    }

    /// Returns the price of one vendor's calls that mention `text`, in micro-USD.
    pub async fn bill_of(&self, vendor: &str, text: &str) -> i64 {
        let bill = self.controlled(self.http.get(self.control(&format!("bill?vendor={vendor}&match={text}")))).await;
        bill["total_micro_usd"].as_i64().expect("a total")
    }

    /// Returns a token that the sandbox's Supabase signs.
    pub async fn token(&self, request: Value) -> String {
        let token = self.controlled(self.http.post(self.control("token")).json(&request)).await;
        token["access_token"].as_str().expect("a token").to_owned()
    }

    /// Returns a forged token.
    pub async fn attack_token(&self, user_id: &str, kind: &str) -> String {
        let request = json!({ "sub": user_id, "kind": kind });
        let token = self.controlled(self.http.post(self.control("attack_token")).json(&request)).await;
        token["access_token"].as_str().expect("a token").to_owned()
    }

    /// Returns the accepted starts of Actor runs for handles that contain the text.
    pub async fn actor_runs(&self, text: &str) -> Vec<Value> {
        let calls = self.calls("apify", text).await;
        calls.into_iter().filter(|call| call["op"] == "start" && call["status"] == 201).collect()
    }

    /// Returns the number of calls to Apify for a handle with this operation.
    pub async fn actor_calls(&self, handle: &str, op: &str) -> usize {
        self.calls("apify", handle).await.iter().filter(|call| call["op"] == op).count()
    }

    /// Replaces the keys of Apify, OpenAI and Anthropic, in Secrets Manager and then at the vendors.
    pub async fn rotate_vendor_keys(&self, keys: [&str; 3]) {
        for (name, field, key) in [("apify", "token", keys[0]), ("openai", "api_key", keys[1]), ("anthropic", "api_key", keys[2])] {
            let secret = json!({ field: key }).to_string();
            let put = self.secrets.put_secret_value().secret_id(format!("oslira/local/{name}")).secret_string(secret);
            put.send().await.expect("the secret is stored");
        }
        let body = json!({ "apify": keys[0], "openai": keys[1], "anthropic": keys[2] });
        self.controlled(self.http.post(self.control("credentials")).json(&body)).await;
    }
}
