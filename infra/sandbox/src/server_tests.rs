//! Tests of the sandbox through its HTTP API.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Options, Sandbox, serve};

struct Client {
    sandbox: Sandbox,
    http: reqwest::Client,
}

impl Client {
    async fn new() -> Self {
        Self { sandbox: serve(Options::default()).await.unwrap(), http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url)
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let response = self.http.post(self.url(&format!("/_control{path}"))).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} {body}");
        response.json().await.unwrap()
    }

    async fn calls(&self, query: &str) -> Vec<Value> {
        self.http.get(self.url(&format!("/_control/calls{query}"))).send().await.unwrap().json().await.unwrap()
    }

    fn model(&self, text: &str) -> reqwest::RequestBuilder {
        self.http
            .post(self.url("/openai/v1/responses"))
            .bearer_auth("sk-sandbox-openai")
            .json(&json!({"model": "gpt-6-luna", "input": text, "max_output_tokens": 2000}))
    }

    fn start(&self, prefix: &str, query: &str, handles: &[&str]) -> reqwest::RequestBuilder {
        self.http
            .post(self.url(&format!("/apify/v2/{prefix}/apify~instagram-profile-scraper/runs{query}")))
            .bearer_auth("apify_sandbox_token")
            .json(&json!({"usernames": handles}))
    }
}

#[tokio::test]
async fn both_paths_of_an_actor_start_a_run() {
    let client = Client::new().await;
    for prefix in ["acts", "actors"] {
        let response = client.start(prefix, "?waitForFinish=999999", &["maya_moves"]).send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert!(response.headers()["location"].to_str().unwrap().contains("/apify/v2/actor-runs/"));
        let run: Value = response.json().await.unwrap();
        assert_eq!(run["data"]["status"], "SUCCEEDED");
        let items = format!("/apify/v2/datasets/{}/items?clean=1", run["data"]["defaultDatasetId"].as_str().unwrap());
        let items: Value =
            client.http.get(client.url(&items)).bearer_auth("apify_sandbox_token").send().await.unwrap().json().await.unwrap();
        assert_eq!(items[0]["username"], "maya_moves");
    }
    let sync = client.url("/apify/v2/acts/apify~instagram-profile-scraper/run-sync-get-dataset-items?token=apify_sandbox_token");
    let sync = client.http.post(sync).json(&json!({"usernames": ["a", "missing"]})).send().await.unwrap();
    assert_eq!((sync.status().as_u16(), sync.headers()["x-apify-pagination-total"].to_str().unwrap()), (201, "2"));
    let bill: Value = client.http.get(client.url("/_control/bill?vendor=apify")).send().await.unwrap().json().await.unwrap();
    assert_eq!(bill["total_micro_usd"], 3 * 2_300 + 1_000);
}

#[tokio::test]
async fn an_abort_ends_a_long_poll_at_once() {
    let client = Client::new().await;
    client.control("/latency", json!({"vendor": "apify", "start_ms": 30_000})).await;
    let run: Value = client.start("actors", "", &["slow"]).send().await.unwrap().json().await.unwrap();
    let path = format!("/apify/v2/actor-runs/{}", run["data"]["id"].as_str().unwrap());
    let began = Instant::now();
    let poll = client.http.get(client.url(&format!("{path}?waitForFinish=60"))).bearer_auth("apify_sandbox_token").send();
    let abort = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.http.post(client.url(&format!("{path}/abort?gracefully=true"))).bearer_auth("apify_sandbox_token").send().await
    };
    let (polled, _) = tokio::join!(poll, abort);
    assert_eq!(polled.unwrap().json::<Value>().await.unwrap()["data"]["status"], "ABORTED");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_hang_is_not_billed() {
    let client = Client::new().await;
    client.control("/faults", json!({"vendor": "openai", "match": "nike", "fault": {"kind": "hang", "seconds": 30}})).await;
    client.model("about @nike").timeout(Duration::from_millis(300)).send().await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let calls = client.calls("?match=nike").await;
    assert_eq!(
        (&calls[0]["outcome"], &calls[0]["delivered"], &calls[0]["bill_micro_usd"]),
        (&json!("client_gone"), &json!(false), &json!(0))
    );
    assert_eq!(client.model("about @adidas").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_disconnect_sends_no_response_and_a_truncated_response_is_not_json() {
    let client = Client::new().await;
    client.control("/faults", json!({"vendor": "openai", "fault": {"kind": "disconnect"}, "times": 1})).await;
    client.control("/faults", json!({"vendor": "openai", "fault": {"kind": "truncated_json"}, "times": 1})).await;
    let error = client.model("x").send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    let half = client.model("x").send().await.unwrap();
    assert_eq!(half.status(), 200);
    serde_json::from_str::<Value>(&half.text().await.unwrap()).unwrap_err();
    assert_eq!(client.model("x").send().await.unwrap().json::<Value>().await.unwrap()["status"], "completed");
    let outcomes: Vec<Value> = client.calls("").await.iter().map(|call| call["outcome"].clone()).collect();
    assert_eq!(outcomes, ["disconnect", "truncated_json", "ok"]);
}

#[tokio::test]
async fn rotated_credentials_replace_the_old_ones() {
    let client = Client::new().await;
    client.control("/credentials", json!({"openai": "sk-next"})).await;
    assert_eq!(client.model("x").send().await.unwrap().status(), 401);
    let next = client.http.post(client.url("/openai/v1/responses")).bearer_auth("sk-next");
    assert_eq!(next.json(&json!({"model": "gpt-6-luna", "input": "x"})).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn invalid_requests_are_rejected() {
    let client = Client::new().await;
    for (path, body) in [
        ("/token", json!({})),
        ("/token", json!({"sub": "x", "algorithm": "ES256"})),
        ("/attack_token", json!({"sub": "x", "kind": "luck"})),
        ("/faults", json!({"vendor": "apify", "fault": {"kind": "refusal"}})),
        ("/faults", json!({"vendor": "paypal", "fault": {"kind": "disconnect"}})),
        ("/latency", json!({"vendor": "apify", "seconds": 1})),
    ] {
        let response = client.http.post(client.url(&format!("/_control{path}"))).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{path} {body}");
    }
    assert_eq!(client.http.get(client.url("/_control/nothing")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_hundred_concurrent_calls_take_no_longer_than_a_few() {
    let client = Client::new().await;
    let profile = "caption of a post, not very long. ".repeat(600);
    let began = Instant::now();
    let calls = (0..100).map(|n| client.model(&format!("about @creator_{n}: {profile}")).send());
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status() == 200));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
