//! A client of the API: an account with its token.

use std::sync::Arc;
use std::time::Duration;

use local::Demo;
use serde_json::{Value, json};

use super::{World, until};

/// How long a run may take in a test before it counts as hanging.
const PATIENCE: Duration = Duration::from_mins(2);

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The data of a success of exactly this status.
    pub fn data(self, status: u16) -> Value {
        assert_eq!((self.status, &self.body["success"]), (status, &json!(true)), "{}", self.body);
        self.body["data"].clone()
    }

    /// The body of an error of exactly this status and code.
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, &self.body["success"], self.body["code"].as_str()), (status, &json!(false), Some(code)), "{}", self.body);
        assert!(self.body["meta"]["requestId"].is_string() && self.body["error"].is_string(), "{}", self.body);
        self.body
    }

    /// Path and code of every fault of a 400, in order.
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

/// How a run ended, as its progress tells.
#[derive(Debug)]
pub struct Ended {
    pub run_id: String,
    pub progress: Value,
}

impl Ended {
    pub fn status(&self) -> &str {
        self.progress["status"].as_str().unwrap_or_default()
    }

    pub fn error_code(&self) -> &str {
        self.progress["error"]["code"].as_str().unwrap_or_default()
    }
}

/// An account and the ways in which its owner uses the API.
#[derive(Clone)]
pub struct Account {
    pub world: Arc<World>,
    pub token: String,
    pub id: String,
    pub business_profile_id: String,
}

impl World {
    /// A new account with `credits` and a business profile.
    pub async fn account(self: &Arc<Self>, credits: u32) -> Account {
        let Demo { token, account_id, business_profile_id } = self.stack.create_account(credits).await.expect("an account");
        Account { world: self.clone(), token, id: account_id, business_profile_id }
    }

    /// Sends a request as it is. What the API answers has to be in its document.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.send_for_text(request).await.0
    }

    /// As [`World::send`], with the body letter by letter.
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

    /// Sends a request to where nothing is: the answer is API Gateway's own.
    pub async fn send_nowhere(&self, request: reqwest::RequestBuilder) -> Answer {
        self.execute(request.build().expect("a request")).await.0
    }

    async fn execute(&self, request: reqwest::Request) -> (Answer, String) {
        let response = self.http.execute(request).await.expect("the API answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        (Answer { status, headers, body }, text)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stack.info().api)
    }
}

impl Account {
    /// A request of any method, for the caller to go on with.
    pub fn request_to(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.world.http.request(method, self.world.url(path)).bearer_auth(&self.token)
    }

    /// Sends a request of any method.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request_to(method, path);
        self.world.send(body.into_iter().fold(request, reqwest::RequestBuilder::json)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.world.send(self.world.http.get(self.world.url(path)).bearer_auth(&self.token)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.world.send(self.world.http.post(self.world.url(path)).bearer_auth(&self.token).json(body)).await
    }

    /// Asks for an analysis.
    pub async fn analyze(&self, handle: &str, tier: &str) -> Answer {
        let body = json!({ "username": handle, "businessProfileId": self.business_profile_id, "analysisType": tier });
        self.post("/api/leads/analyze", &body).await
    }

    /// Asks for an analysis that must be accepted. Answers its run.
    pub async fn start(&self, handle: &str, tier: &str) -> String {
        let data = self.analyze(handle, tier).await.data(202);
        data["run_id"].as_str().expect("a run id").to_owned()
    }

    /// A run's progress.
    pub async fn progress(&self, run_id: &str) -> Value {
        let path = format!("/api/analysis/{run_id}/progress");
        self.patiently(|| self.get(&path)).await.data(200)
    }

    /// Asks again when told to come later, as clients do: among a hundred cold starts the emulator, which is one process, takes longer to
    /// give a secret than a function waits for it.
    pub async fn patiently<F: Future<Output = Answer>>(&self, ask: impl Fn() -> F) -> Answer {
        for _ in 0..20 {
            let answer = ask().await;
            if answer.status != 503 {
                return answer;
            }
            assert!(answer.header("retry-after").is_some(), "{}", answer.body);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        panic!("the service does not come back")
    }

    pub async fn result(&self, run_id: &str) -> Answer {
        self.get(&format!("/api/analysis/{run_id}/result")).await
    }

    pub async fn cancel(&self, run_id: &str) -> Answer {
        self.post(&format!("/api/analysis/{run_id}/cancel"), &json!({})).await
    }

    /// Waits for a run's end. The database tells when; the API, once, how: polling it would use up its limit.
    pub async fn ended(&self, run_id: &str) -> Ended {
        until(&format!("the end of {run_id}"), PATIENCE, || async {
            let status: Option<String> = self.world.db.value("SELECT status FROM analyses WHERE run_id = $1", &[&run_id]).await;
            status.filter(|status| ["completed", "failed", "cancelled"].contains(&status.as_str()))
        })
        .await;
        Ended { run_id: run_id.to_owned(), progress: self.progress(run_id).await }
    }

    /// Starts an analysis and waits for its end.
    pub async fn run(&self, handle: &str, tier: &str) -> Ended {
        let run_id = self.start(handle, tier).await;
        self.ended(&run_id).await
    }

    pub async fn balance(&self) -> i32 {
        let sql = "SELECT current_balance FROM credit_balances WHERE account_id = $1::text::uuid";
        self.world.db.value(sql, &[&self.id]).await.expect("a balance")
    }

    /// The ledger's entries of a run: type and amount, in order.
    pub async fn entries(&self, run_id: &str) -> Vec<(String, i32)> {
        let sql = "SELECT transaction_type, amount FROM credit_ledger WHERE run_id = $1 ORDER BY entry_no";
        self.world.db.rows(sql, &[&run_id]).await.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Asserts that the run ended without a result, was charged and refunded exactly once each, and that the balance is `balance`.
    pub async fn assert_refunded(&self, ended: &Ended, code: &str, credits: i32, balance: i32) {
        assert_eq!((ended.status(), ended.error_code()), ("failed", code), "{}", ended.progress);
        self.assert_refund_booked(&ended.run_id, credits, balance).await;
    }

    pub async fn assert_refund_booked(&self, run_id: &str, credits: i32, balance: i32) {
        let entries = self.entries(run_id).await;
        assert_eq!(entries, [("analysis".to_owned(), -credits), ("refund".to_owned(), credits)]);
        assert_eq!(self.balance().await, balance);
    }
}
