//! Purchases that are repeated with an `Idempotency-Key`: one checkout and one response, whatever fails in between.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Account, World, json, stack_test, until};

/// Returns the number of sessions that Stripe created for the account.
async fn sessions(account: &Account) -> usize {
    let calls = account.world.calls("stripe", &format!("purchase:{}", account.id)).await;
    let made = |outcome: &serde_json::Value| ["ok", "disconnect", "truncated_json", "client_gone"].iter().any(|known| outcome == known);
    calls.iter().filter(|call| made(&call["outcome"])).count()
}

#[stack_test]
async fn a_repeat_gets_the_first_response(world: Arc<World>) {
    let account = world.account(0).await;
    let body = json!({ "amount": 100 });
    let first = account.purchase(&body, Some("first")).await;
    for _ in 0..3 {
        let again = account.purchase(&body, Some("first")).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
    }
    let other = account.purchase(&body, Some("second")).await.data(201);
    assert_ne!(other["session_id"], first.body["data"]["session_id"]);
    assert_eq!(sessions(&account).await, 2);
    // The keys of other users are independent.
    let neighbour = world.account(0).await;
    let theirs = neighbour.purchase(&body, Some("first")).await.data(201);
    assert_ne!(theirs["session_id"], first.body["data"]["session_id"]);
}

#[stack_test]
async fn a_key_belongs_to_one_request(world: Arc<World>) {
    let account = world.account(0).await;
    account.purchase(&json!({ "amount": 100 }), Some("key")).await.data(201);
    account.purchase(&json!({ "amount": 101 }), Some("key")).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(sessions(&account).await, 1);
}

#[stack_test]
async fn ten_concurrent_repeats_open_one_checkout(world: Arc<World>) {
    let account = world.account(0).await;
    let body = json!({ "amount": 100 });
    let responses = futures::future::join_all((0..10).map(|_| account.purchase(&body, Some("twins")))).await;
    let first = account.purchase(&body, Some("twins")).await;
    assert_eq!(first.status, 201, "{}", first.body);
    for response in responses {
        if response.status == 409 {
            response.problem(409, "IDEMPOTENCY_KEY_IN_USE");
        } else {
            assert_eq!((response.status, &response.body), (201, &first.body));
        }
    }
    assert_eq!(sessions(&account).await, 1);
}

#[stack_test]
async fn a_failure_of_stripe_does_not_use_up_the_key(world: Arc<World>) {
    let account = world.account(0).await;
    let body = json!({ "amount": 100 });
    let fault =
        json!({ "vendor": "stripe", "op": "sessions", "match": account.id, "times": 3, "fault": { "kind": "status", "status": 500 } });
    world.fault_rule(fault).await;
    let failed = account.purchase(&body, Some("key")).await;
    assert!(failed.header("retry-after").is_some(), "{failed:?}");
    failed.problem(503, "SERVICE_UNAVAILABLE");
    let first = account.purchase(&body, Some("key")).await;
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(account.purchase(&body, Some("key")).await.body, first.body);
    assert_eq!(sessions(&account).await, 1);
    // Stripe's refusal cannot be retried and is a defect of ours. The response does not reveal it.
    let fault =
        json!({ "vendor": "stripe", "op": "sessions", "match": account.id, "times": 1, "fault": { "kind": "status", "status": 400 } });
    world.fault_rule(fault).await;
    account.purchase(&body, Some("refused")).await.problem(500, "INTERNAL_ERROR");
    account.purchase(&body, Some("refused")).await.data(201);
}

#[stack_test]
async fn a_lost_response_of_stripe_opens_no_second_checkout(world: Arc<World>) {
    for kind in ["disconnect", "truncated_json"] {
        let account = world.account(0).await;
        let body = json!({ "amount": 100 });
        for op in ["customers", "sessions"] {
            let fault = json!({ "vendor": "stripe", "op": op, "match": account.id, "times": 1, "fault": { "kind": kind } });
            world.fault_rule(fault).await;
        }
        // Whether the client or the function retries: there is one checkout in the end.
        let first = until("an answer", Duration::from_mins(1), || async {
            let answer = account.purchase(&body, Some("key")).await;
            (answer.status == 201).then_some(answer)
        })
        .await;
        assert_eq!(account.purchase(&body, Some("key")).await.body, first.body);
        let answered = world.calls("stripe", &format!("purchase:{}", account.id)).await;
        let ids: Vec<_> = answered.iter().map(|call| call["outcome"].clone()).collect();
        assert_eq!(ids, [json!(kind), json!("replayed")]);
        let customers = world.stripe_events(&account.id).await.into_iter().filter(|event| event["type"] == "customer.created").count();
        assert_eq!((customers, sessions(&account).await), (1, 1));
    }
}

#[stack_test]
async fn impossible_keys_are_refused(world: Arc<World>) {
    let account = world.account(0).await;
    let long = "k".repeat(256);
    for key in ["", long.as_str()] {
        account.purchase(&json!({ "amount": 100 }), Some(key)).await.problem(400, "VALIDATION_ERROR");
    }
    account.purchase(&json!({ "amount": 100 }), Some(&"k".repeat(255))).await.data(201);
}

#[stack_test(alone)]
async fn an_unreachable_stripe_does_not_use_up_the_key(world: Arc<World>) {
    let account = world.account(0).await;
    let body = json!({ "amount": 100 });
    let address = world.set_variable("purchase_credits", "STRIPE_BASE_URL", "http://127.0.0.1:1").await;
    let failed = until("a function without Stripe", Duration::from_mins(1), || async {
        let answer = account.purchase(&body, Some("key")).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert!(failed.header("retry-after").is_some(), "{failed:?}");
    failed.problem(503, "SERVICE_UNAVAILABLE");
    world.set_variable("purchase_credits", "STRIPE_BASE_URL", &address).await;
    let first = until("Stripe in reach", Duration::from_mins(1), || async {
        let answer = account.purchase(&body, Some("key")).await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    assert_eq!(account.purchase(&body, Some("key")).await.body, first.body);
    assert_eq!(sessions(&account).await, 1);
}

#[stack_test]
async fn a_key_is_forgotten_after_a_day(world: Arc<World>) {
    let account = world.account(0).await;
    let first = account.purchase(&json!({ "amount": 100 }), Some("key")).await.data(201);
    let sql = "UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second' WHERE account_id = $1::text::uuid";
    world.db.rows(sql, &[&account.id]).await;
    let second = account.purchase(&json!({ "amount": 101 }), Some("key")).await.data(201);
    assert_ne!(first["session_id"], second["session_id"]);
    account.purchase(&json!({ "amount": 100 }), Some("key")).await.problem(422, "IDEMPOTENCY_KEY_REUSED");
}

#[stack_test(alone)]
async fn a_killed_purchase_continues_with_the_same_checkout(world: Arc<World>) {
    let account = world.account(0).await;
    let body = json!({ "amount": 100 });
    let fault = json!({ "vendor": "stripe", "op": "sessions", "match": account.id, "times": 1, "fault": { "kind": "hang", "seconds": 3 } });
    world.fault_rule(fault).await;
    let buying = tokio::spawn({
        let (account, body) = (account.clone(), body.clone());
        async move { account.purchase(&body, Some("key")).await }
    });
    let opened = until("a session", Duration::from_mins(1), || async {
        let sessions = world.stripe_object("checkout/sessions?limit=100").await["data"].as_array()?.clone();
        sessions.into_iter().find(|session| session["client_reference_id"] == json!(account.id))
    })
    .await;
    assert!(world.kill_function("purchase_credits").await > 0);
    let killed = buying.await.unwrap();
    assert!(killed.status >= 500, "{killed:?}");
    // For a minute the first request may still be processed.
    account.purchase(&body, Some("key")).await.problem(409, "IDEMPOTENCY_KEY_IN_USE");
    let sql = "UPDATE idempotency_keys SET claimed_at = now() - interval '61 seconds' WHERE account_id = $1::text::uuid";
    world.db.rows(sql, &[&account.id]).await;
    let first = until("an answer", Duration::from_mins(1), || async {
        let answer = account.purchase(&body, Some("key")).await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    assert_eq!(account.purchase(&body, Some("key")).await.body, first.body);
    assert_eq!(first.body["data"]["session_id"], opened["id"]);
}

#[stack_test(alone)]
async fn a_rotated_key_of_stripe_is_fetched_anew(world: Arc<World>) {
    let account = world.account(0).await;
    let intent = account.buy(10).await;
    let rotate = |key: &'static str| {
        let world = &world;
        async move {
            let value = json!({ "api_key": key }).to_string();
            world.secrets.put_secret_value().secret_id("oslira/local/stripe").secret_string(value).send().await.unwrap();
            let url = format!("{}/_control/credentials", world.stack.info().sandbox);
            let answer = world.http.post(url).json(&json!({ "stripe": key })).send().await.unwrap();
            assert!(answer.status().is_success());
        }
    };
    rotate("sk_test_rotated").await;
    account.purchase(&json!({ "amount": 20 }), None).await.data(201);
    // The consumer calls Stripe too, for the invoice of a reversed payment.
    let refund = world.http.post(format!("{}/_control/stripe/payment_intents/{intent}/refund", world.stack.info().sandbox));
    assert!(refund.json(&json!({})).send().await.unwrap().status().is_success());
    account.until_balance(0).await;
    rotate("sk_test_sandbox").await;
    // A secret that was rejected is fetched again only after a few seconds.
    until("the old key", Duration::from_secs(30), || async {
        (account.purchase(&json!({ "amount": 20 }), None).await.status == 201).then_some(())
    })
    .await;
}
