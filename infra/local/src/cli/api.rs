//! The three requests of a demo.

use anyhow::{Context, Result, bail};
use local::{Demo, StackInfo};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// The API as the demo account's owner sees it.
pub(crate) struct Api<'a> {
    pub(crate) http: &'a Client,
    pub(crate) info: &'a StackInfo,
    pub(crate) demo: &'a Demo,
}

impl Api<'_> {
    /// Starts an analysis and answers its run id.
    pub(crate) async fn start(&self, handle: &str, tier: &str) -> Result<String> {
        let body = json!({"username": handle, "businessProfileId": self.demo.business_profile_id, "analysisType": tier});
        let (status, answer) = self.send(self.http.post(format!("{}/api/leads/analyze", self.info.api)).json(&body)).await?;
        if status != StatusCode::ACCEPTED {
            bail!("{tier} was refused ({status}): {answer}");
        }
        Ok(answer["data"]["run_id"].as_str().context("the answer holds no run id")?.to_owned())
    }

    pub(crate) async fn progress(&self, run: &str) -> Result<Value> {
        self.get(run, "progress").await
    }

    pub(crate) async fn result(&self, run: &str) -> Result<Value> {
        self.get(run, "result").await
    }

    async fn get(&self, run: &str, what: &str) -> Result<Value> {
        let (status, mut answer) = self.send(self.http.get(format!("{}/api/analysis/{run}/{what}", self.info.api))).await?;
        if !status.is_success() {
            bail!("no {what} ({status}): {answer}");
        }
        Ok(answer["data"].take())
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value)> {
        let answer = request.bearer_auth(&self.demo.token).send().await.context("the API does not answer")?;
        Ok((answer.status(), answer.json().await.context("the answer is no JSON")?))
    }
}
