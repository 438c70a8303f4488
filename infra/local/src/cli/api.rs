//! The API calls of the demonstrations.

use anyhow::{Context, Result, bail};
use local::{Demo, StackInfo};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The API, called as the owner of an account.
pub(crate) struct Api<'a> {
    pub(crate) http: &'a Client,
    pub(crate) info: &'a StackInfo,
    pub(crate) demo: &'a Demo,
}

impl Api<'_> {
    /// Starts an analysis and returns its run id.
    pub(crate) async fn start(&self, handle: &str, tier: &str) -> Result<String> {
        let body = json!({"username": handle, "businessProfileId": self.demo.business_profile_id, "analysisType": tier});
        let started = self.post("/api/leads/analyze", &body, None).await?;
        Ok(started["run_id"].as_str().context("the response contains no run id")?.to_owned())
    }

    pub(crate) async fn progress(&self, run: &str) -> Result<Value> {
        self.get(&format!("/api/analysis/{run}/progress")).await
    }

    pub(crate) async fn result(&self, run: &str) -> Result<Value> {
        self.get(&format!("/api/analysis/{run}/result")).await
    }

    /// Returns the `data` of a resource.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None, None).await
    }

    /// Sends a POST request and returns the `data` of the response.
    pub(crate) async fn post(&self, path: &str, body: &Value, idempotency_key: Option<&str>) -> Result<Value> {
        self.call(Method::POST, path, Some(body), idempotency_key).await
    }

    /// Sends a PUT request and returns the `data` of the response.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::PUT, path, Some(body), None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>, idempotency_key: Option<&str>) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.info.api)).bearer_auth(&self.demo.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.context("the API does not respond")?;
        let (status, mut answer): (_, Value) = (answer.status(), answer.json().await.context("the response is not JSON")?);
        if !status.is_success() {
            bail!("{path} failed with {status}: {answer}");
        }
        Ok(answer["data"].take())
    }
}
