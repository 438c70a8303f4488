//! Requests to the API and its responses.

use serde_json::{Value, json};

use super::World;

/// A response of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Returns the data of a success of exactly this status.
    pub fn data(self, status: u16) -> Value {
        assert_eq!((self.status, &self.body["success"]), (status, &json!(true)), "{}", self.body);
        self.body["data"].clone()
    }

    /// Returns the body of an error of exactly this status and code.
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, &self.body["success"], self.body["code"].as_str()), (status, &json!(false), Some(code)), "{}", self.body);
        assert!(self.body["meta"]["requestId"].is_string() && self.body["error"].is_string(), "{}", self.body);
        self.body
    }

    /// Returns path and code of every fault of a 400, in order.
    pub fn faults(self) -> Vec<(String, String)> {
        let problem = self.problem(400, "VALIDATION_ERROR");
        let faults = problem["details"].as_array().expect("a list of faults");
        assert!(faults.iter().all(|fault| fault["message"].as_str().is_some_and(|text| !text.is_empty())), "{problem}");
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        faults.iter().map(|fault| (text(&fault["path"]), text(&fault["code"]))).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl World {
    /// Sends a request. Fails the test unless the API's document describes the response.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.send_for_text(request).await.0
    }

    /// Sends a request as [`World::send`] does and also returns the text of the response.
    pub async fn send_for_text(&self, request: reqwest::RequestBuilder) -> (Answer, String) {
        let request = request.build().expect("a request");
        let (method, path) =
            (request.method().to_string(), request.url().as_str().strip_prefix(&self.stack.info().api).map(ToOwned::to_owned));
        let sent = request.body().and_then(|body| serde_json::from_slice(body.as_bytes()?).ok()).unwrap_or_default();
        let (answer, text) = self.execute(request).await;
        if let Some(path) = path.as_deref().and_then(|path| path.split('?').next()) {
            self.contract.check(&method, path, &sent, &answer);
        }
        (answer, text)
    }

    /// Sends a request to a path without a route, whose response is API Gateway's own.
    pub async fn send_without_route(&self, request: reqwest::RequestBuilder) -> Answer {
        self.execute(request.build().expect("a request")).await.0
    }

    async fn execute(&self, request: reqwest::Request) -> (Answer, String) {
        let response = self.http.execute(request).await.expect("the API answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        (Answer { status, headers, body }, text)
    }

    /// Returns the URL of a path of the API.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stack.info().api)
    }
}
