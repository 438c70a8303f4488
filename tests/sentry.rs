//! What Sentry learns of errors, and what it costs a request when it is dead.

use std::sync::Arc;

use crate::harness::{Account, Answer, Value, World, cases, json};

cases!(shared: an_error_is_reported_with_what_led_to_it; alone: a_dead_sentry_costs_no_answer);

impl Account {
    /// A purchase that Stripe refuses for a reason that is our fault: an error of ours, with this account in every call.
    async fn broken_purchase(&self) -> Answer {
        let fault = json!({ "kind": "status", "status": 400 });
        self.world.fault_rule(json!({ "vendor": "stripe", "op": "sessions", "match": self.id, "times": 1, "fault": fault })).await;
        self.post("/api/credits/purchase", &json!({ "amount": 10 })).await
    }
}

async fn an_error_is_reported_with_what_led_to_it(world: Arc<World>) {
    let account = world.account(0).await;
    let problem = account.broken_purchase().await.problem(500, "INTERNAL_ERROR");
    let request_id = problem["meta"]["requestId"].as_str().unwrap();
    // It was sent before the answer was.
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
    for secret in [&*account.token, "sk_test_", "Bearer "] {
        assert!(!envelope.contains(secret), "{secret}");
    }
    // What is refused for good reasons is nobody's error.
    let refused = account.post("/api/credits/purchase", &json!({ "amount": 1 })).await;
    let id = refused.body["meta"]["requestId"].as_str().unwrap().to_owned();
    refused.problem(400, "VALIDATION_ERROR");
    assert_eq!(world.calls("sentry", &id).await.len(), 0);
    // Errors are counted as well.
    crate::harness::until("the error's count", std::time::Duration::from_secs(20), || async {
        let lines = world.stack.log_lines(Some("purchase_credits")).await.unwrap();
        let counted = |line: &String| line.contains(r#""dataset":"errors""#) && line.contains(request_id);
        lines.iter().any(counted).then_some(())
    })
    .await;
}

async fn a_dead_sentry_costs_no_answer(world: Arc<World>) {
    let account = world.account(0).await;
    world.fault("sentry", &account.id, None, json!({ "kind": "hang", "seconds": 60.0 })).await;
    let mut asked = Vec::new();
    for _ in 0..5 {
        let problem = account.broken_purchase().await.problem(500, "INTERNAL_ERROR");
        asked.push(world.calls("sentry", problem["meta"]["requestId"].as_str().unwrap()).await.len());
    }
    // Each environment tries once, and then leaves it in peace for a minute.
    let environments = world.stack.function_pids("purchase_credits").len();
    assert!((1..=environments).contains(&asked.iter().sum()), "{asked:?} of {environments}");
    world.kill_function("purchase_credits").await;
}
