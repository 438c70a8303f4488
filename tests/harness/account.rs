//! An account: its owner's requests, its runs, and its entries in the ledger.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Answer, World, until};

/// The longest duration of a run in a test.
const RUN_TIMEOUT: Duration = Duration::from_mins(2);

/// A run that has ended, with its last progress.
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

/// An account and its owner's token.
#[derive(Clone)]
pub struct Account {
    pub world: Arc<World>,
    pub token: String,
    pub id: String,
    pub business_profile_id: String,
}

impl Account {
    /// Creates a request of any method.
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

    /// Requests an analysis.
    pub async fn analyze(&self, handle: &str, tier: &str) -> Answer {
        let body = json!({ "username": handle, "businessProfileId": self.business_profile_id, "analysisType": tier });
        self.post("/api/leads/analyze", &body).await
    }

    /// Starts an analysis and returns its run id.
    pub async fn start(&self, handle: &str, tier: &str) -> String {
        let data = self.analyze(handle, tier).await.data(202);
        data["run_id"].as_str().expect("a run id").to_owned()
    }

    /// Returns a run's progress.
    pub async fn progress(&self, run_id: &str) -> Value {
        let path = format!("/api/analysis/{run_id}/progress");
        self.retried_while_unavailable(|| self.get(&path)).await.data(200)
    }

    /// Repeats a request while its status is 503, as clients do. During a hundred cold starts the emulator, which is one process, takes
    /// longer to return a secret than a function waits for it.
    pub async fn retried_while_unavailable<F: Future<Output = Answer>>(&self, send: impl Fn() -> F) -> Answer {
        for _ in 0..20 {
            let answer = send().await;
            if answer.status != 503 {
                return answer;
            }
            assert!(answer.header("retry-after").is_some(), "{}", answer.body);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        panic!("the service stays unavailable")
    }

    pub async fn result(&self, run_id: &str) -> Answer {
        self.get(&format!("/api/analysis/{run_id}/result")).await
    }

    pub async fn cancel(&self, run_id: &str) -> Answer {
        self.post(&format!("/api/analysis/{run_id}/cancel"), &json!({})).await
    }

    /// Waits for a run's end. It polls the database and reads the progress once, because polling the API would exhaust its rate limit.
    pub async fn ended(&self, run_id: &str) -> Ended {
        until(&format!("the end of {run_id}"), RUN_TIMEOUT, || async {
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

    /// Returns how many requests of the account a limit has counted, in all its windows.
    pub async fn counted(&self, scope: &str) -> i64 {
        use aws_sdk_dynamodb::types::AttributeValue;
        let scan = self.world.dynamodb.scan().table_name(&self.world.stack.outputs()["RateLimitsTableName"]);
        let scan =
            scan.filter_expression("begins_with(#bucket, :bucket)").expression_attribute_names("#bucket", "bucket").consistent_read(true);
        let bucket = AttributeValue::S(format!("{scope}#{}#", self.id));
        let pages = scan.expression_attribute_values(":bucket", bucket).into_paginator().items().send();
        let items = pages.collect::<Result<Vec<_>, _>>().await.expect("the counters");
        items.iter().map(|item| item["used"].as_n().expect("a number").parse::<i64>().expect("a number")).sum()
    }

    pub async fn balance(&self) -> i32 {
        let sql = "SELECT current_balance FROM credit_balances WHERE account_id = $1::text::uuid";
        self.world.db.value(sql, &[&self.id]).await.expect("a balance")
    }

    /// Returns the ledger entries of a run, type and amount, in order.
    pub async fn entries(&self, run_id: &str) -> Vec<(String, i32)> {
        let sql = "SELECT transaction_type, amount FROM credit_ledger WHERE run_id = $1 ORDER BY entry_no";
        self.world.db.rows(sql, &[&run_id]).await.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Asserts that a run failed with this code, that it was charged and refunded once each, and that the balance is `balance`.
    pub async fn assert_refunded(&self, ended: &Ended, code: &str, credits: i32, balance: i32) {
        assert_eq!((ended.status(), ended.error_code()), ("failed", code), "{}", ended.progress);
        self.assert_refund_recorded(&ended.run_id, credits, balance).await;
    }

    /// Asserts that a run was charged and refunded once each, and that the balance is `balance`.
    pub async fn assert_refund_recorded(&self, run_id: &str, credits: i32, balance: i32) {
        let entries = self.entries(run_id).await;
        assert_eq!(entries, [("analysis".to_owned(), -credits), ("refund".to_owned(), credits)]);
        assert_eq!(self.balance().await, balance);
    }
}
