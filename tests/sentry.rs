//! Error reports to Sentry, and requests while Sentry is unavailable.

use std::sync::Arc;

use crate::harness::{Account, Answer, Value, World, json, stack_test};

impl Account {
    /// Requests a purchase that Stripe rejects, so that the API responds with an internal error. Only calls of this account fail.
    async fn broken_purchase(&self) -> Answer {
        let fault = json!({ "kind": "status", "status": 400 });
        self.world.fault_rule(json!({ "vendor": "stripe", "op": "sessions", "match": self.id, "times": 1, "fault": fault })).await;
        self.post("/api/credits/purchase", &json!({ "amount": 10 })).await
    }
}

#[stack_test]
async fn an_error_is_reported_with_its_cause_and_breadcrumbs(world: Arc<World>) {
    let account = world.account(0).await;
    let problem = account.broken_purchase().await.problem(500, "INTERNAL_ERROR");
    let request_id = problem["meta"]["requestId"].as_str().unwrap();
    // The report is sent before the response.
    let calls = world.calls("sentry", request_id).await;
    assert_eq!(calls.len(), 1);
    let envelope = world.call_body(&calls[0]).await;
    let event: Value = serde_json::from_str(envelope.lines().nth(2).unwrap()).unwrap();
    let user: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    assert_eq!(event["user"]["id"], json!(user));
    let tags = &event["tags"];
    assert_eq!(
        json!([tags["endpoint"], tags["account_id"], tags["requestId"], tags["code"], event["environment"]]),
        json!(["POST /api/credits/purchase", account.id, request_id, "INTERNAL_ERROR", "local"]),
        "{event}"
    );
    assert!(tags["function"].as_str().unwrap().ends_with("purchase-credits"), "{tags}");
    assert!(event["exception"]["values"][0]["value"].as_str().unwrap().contains("400"), "{event}");
    // The last frame is where the error was made, in the handler.
    let frames = event["exception"]["values"][0]["stacktrace"]["frames"].as_array().unwrap();
    let last = frames.last().unwrap();
    assert!(frames.len() >= 2 && frames[0]["function"] == "request", "{frames:?}");
    assert!(last["filename"].as_str().unwrap().ends_with("purchase_credits.rs") && last["lineno"].is_u64(), "{frames:?}");
    for secret in [&*account.token, "sk_test_", "Bearer "] {
        assert!(!envelope.contains(secret), "{secret}");
    }
    // A rejected request is not reported.
    let refused = account.post("/api/credits/purchase", &json!({ "amount": 1 })).await;
    let id = refused.body["meta"]["requestId"].as_str().unwrap().to_owned();
    refused.problem(400, "VALIDATION_ERROR");
    assert_eq!(world.calls("sentry", &id).await.len(), 0);
    // Errors are also counted.
    crate::harness::until("the error's count", std::time::Duration::from_secs(20), || async {
        let lines = world.stack.log_lines(Some("purchase_credits")).await.unwrap();
        let counted = |line: &String| line.contains(r#""dataset":"errors""#) && line.contains(request_id);
        lines.iter().any(counted).then_some(())
    })
    .await;
}

#[stack_test(alone)]
async fn an_unavailable_sentry_does_not_affect_responses(world: Arc<World>) {
    let account = world.account(0).await;
    world.fault("sentry", &account.id, None, json!({ "kind": "hang", "seconds": 60.0 })).await;
    let mut reported = Vec::new();
    for _ in 0..5 {
        let problem = account.broken_purchase().await.problem(500, "INTERNAL_ERROR");
        reported.push(world.calls("sentry", problem["meta"]["requestId"].as_str().unwrap()).await.len());
    }
    // Each environment tries once and then backs off for a minute.
    let environments = world.stack.function_pids("purchase_credits").len();
    assert!((1..=environments).contains(&reported.iter().sum()), "{reported:?} of {environments}");
    world.kill_function("purchase_credits").await;
}
