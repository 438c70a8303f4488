//! The webhook: it accepts only events that Stripe has signed, passes their bytes on unchanged, and needs nothing but the queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Answer, Queue, Value, World, json, stack_test, until};

const SECRET: &str = "whsec_sandbox";

/// Creates an event without effects.
fn idle_event(world: &World) -> Value {
    json!({
        "id": format!("evt_{}", world.handle("idle")), "object": "event", "type": "charge.succeeded", "api_version": "2026-10-28.endive",
        "created": 1_795_400_000, "data": { "object": { "id": "ch_1", "note": "caf\u{e9} \u{1f600}" } }, "livemode": false, "request": null
    })
}

async fn until_event_recorded(world: &World, event: &Value) {
    until("the recorded event", Duration::from_mins(1), || async { world.is_recorded(event).await.then_some(()) }).await;
}

/// Asserts that none of these events is recorded after a later one is.
async fn assert_not_recorded(world: &World, events: &[Value]) {
    let sentinel = idle_event(world);
    world.send_event(&sentinel).await;
    until_event_recorded(world, &sentinel).await;
    world.until_empty(Queue::StripeEvents).await;
    for event in events {
        assert!(!world.is_recorded(event).await, "{event}");
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Returns the `v1` signature of a header.
fn v1(header: &str) -> &str {
    header.split_once("v1=").unwrap().1
}

#[stack_test]
async fn signed_events_are_accepted(world: Arc<World>) {
    let other = "0".repeat(64);
    for elements in [
        vec!["t", "v1"],
        // Another secret's signature first, an unknown version, and another order.
        vec!["t", "other", "v1"],
        vec!["v0", "v1", "other", "t"],
    ] {
        let event = idle_event(&world);
        let body = event.to_string();
        let at = now();
        let signed = world.sign(&body, SECRET, Some(at)).await;
        let header: Vec<String> = elements
            .into_iter()
            .map(|element| match element {
                "t" => format!("t={at}"),
                "v1" => format!("v1={}", v1(&signed)),
                "other" => format!("v1={other}"),
                _ => format!("v0={other}"),
            })
            .collect();
        let data = world.webhook(body, Some(&header.join(","))).await.data(200);
        assert_eq!(data, json!({ "received": true, "event_id": event["id"] }));
        until_event_recorded(&world, &event).await;
    }
    // Nearly five minutes are within the tolerance.
    let event = idle_event(&world);
    let body = event.to_string();
    let signed = world.sign(&body, SECRET, Some(now() - 290)).await;
    world.webhook(body, Some(&signed)).await.data(200);
    until_event_recorded(&world, &event).await;
    let kept: Option<Value> =
        world.db.value("SELECT effect FROM webhook_events WHERE stripe_event_id = $1", &[&event["id"].as_str()]).await;
    assert_eq!(kept, Some(json!({ "kind": "ignored" })));
}

#[stack_test]
async fn events_without_a_valid_signature_are_rejected(world: Arc<World>) {
    let mut refused = Vec::new();
    for attack in [
        "altered",
        "wrong secret",
        "301 s old",
        "from the future",
        "no header",
        "v0 only",
        "empty",
        "with another time",
        "no secret",
        "garbage",
    ] {
        let event = idle_event(&world);
        let body = event.to_string();
        let at = now();
        let signed = world.sign(&body, SECRET, Some(at)).await;
        let (sent, header) = match attack {
            "altered" => (body.replace("charge.succeeded", "charge.succeedeD"), Some(signed)),
            "wrong secret" => (body.clone(), Some(world.sign(&body, "whsec_other", None).await)),
            "301 s old" => (body.clone(), Some(world.sign(&body, SECRET, Some(at - 301)).await)),
            "from the future" => (body.clone(), Some(world.sign(&body, SECRET, Some(at + 400)).await)),
            "no header" => (body.clone(), None),
            "v0 only" => (body.clone(), Some(signed.replace("v1=", "v0="))),
            "empty" => (body.clone(), Some(String::new())),
            "with another time" => (body.clone(), Some(format!("t={},v1={}", at + 1, v1(&signed)))),
            "no secret" => (body.clone(), Some(world.sign(&body, "", None).await)),
            _ => (body.clone(), Some("t=now,v1=zz".to_owned())),
        };
        let problem = world.webhook(sent, header.as_deref()).await.problem(400, "SIGNATURE_INVALID");
        assert!(
            !problem.to_string().contains("whsec") && !problem.to_string().contains(v1(&world.sign(&body, SECRET, Some(at)).await)),
            "{attack}"
        );
        refused.push(event);
    }
    assert_not_recorded(&world, &refused).await;
}

/// Sends a request that API Gateway treats as binary and passes on in base64.
async fn binary(world: &World, body: Vec<u8>, header: &str) -> Answer {
    let request = world.http.post(world.url("/api/webhooks/stripe")).header("content-type", "application/octet-stream");
    world.send(request.header("stripe-signature", header).body(body)).await
}

#[stack_test]
async fn bodies_are_verified_byte_by_byte(world: Arc<World>) {
    let (event, altered) = (idle_event(&world), idle_event(&world));
    // The JSON is formatted in a way that only its bytes show.
    let body = format!("\n{}\t\r\n", serde_json::to_string_pretty(&event).unwrap().replace("\": ", "\" :  "));
    let header = world.sign(&body, SECRET, None).await;
    let data = binary(&world, body.clone().into_bytes(), &header).await.data(200);
    assert_eq!(data["event_id"], event["id"]);
    binary(&world, body.trim().as_bytes().to_vec(), &header).await.problem(400, "SIGNATURE_INVALID");
    until_event_recorded(&world, &event).await;
    world.webhook(body.clone(), Some(&header)).await.data(200);
    world.webhook(body.trim().to_owned(), Some(&header)).await.problem(400, "SIGNATURE_INVALID");
    let header = world.sign(&altered.to_string(), SECRET, None).await;
    let broken = [altered.to_string().as_bytes(), &[0xff]].concat();
    binary(&world, broken, &header).await.problem(400, "SIGNATURE_INVALID");
    assert_not_recorded(&world, &[altered]).await;
}

#[stack_test]
async fn a_signed_body_that_is_not_an_event_is_rejected(world: Arc<World>) {
    let thin = json!({ "object": "v2.core.event", "id": "evt_thin", "type": "v1.invoice.paid", "created": "2026-11-22T12:00:00Z" });
    for body in ["", "{", "null", "[]", "\"evt\"", "{}", "{\"object\":\"event\"}", &thin.to_string()] {
        let header = world.sign(body, SECRET, None).await;
        world.webhook(body.to_owned(), Some(&header)).await.problem(400, "INVALID_EVENT");
    }
    assert_not_recorded(&world, &[thin]).await;
}

#[stack_test]
async fn a_body_that_is_too_large_is_rejected(world: Arc<World>) {
    let sized = |bytes: usize| {
        let mut event = idle_event(&world);
        let rest = bytes - event.to_string().len() - ",\"pad\":\"\"".len();
        event["pad"] = json!("x".repeat(rest));
        assert_eq!(event.to_string().len(), bytes);
        event
    };
    let (largest, larger) = (sized(256 * 1024), sized(256 * 1024 + 1));
    world.send_event(&largest).await;
    until_event_recorded(&world, &largest).await;
    let body = larger.to_string();
    let header = world.sign(&body, SECRET, None).await;
    world.webhook(body.clone(), Some(&header)).await.problem(413, "PAYLOAD_TOO_LARGE");
    assert_not_recorded(&world, &[larger]).await;
}

#[stack_test]
async fn the_webhook_responds_within_a_second(world: Arc<World>) {
    let mut times = Vec::new();
    for _ in 0..40 {
        let body = idle_event(&world).to_string();
        let header = world.sign(&body, SECRET, None).await;
        let started = Instant::now();
        world.webhook(body, Some(&header)).await.data(200);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let (p50, p95) = (times[times.len() / 2], times[times.len() * 95 / 100]);
    println!("the webhook, through API Gateway: p50 {p50:?}, p95 {p95:?}");
    assert!(p50 < Duration::from_millis(500), "{times:?}");
}

async fn set_secrets(world: &World, secrets: &[&str]) {
    let value = json!({ "secrets": secrets }).to_string();
    world.secrets.put_secret_value().secret_id("oslira/local/stripe-webhook").secret_string(value).send().await.unwrap();
}

#[stack_test(alone)]
async fn a_rolled_secret_is_fetched_at_once(world: Arc<World>) {
    let account = world.account(0).await;
    let customer = account.customer().await;
    let event = world.stripe_event("customer.created", &customer).await;
    let statuses = |secret: &'static str| {
        let (world, event) = (&world, &event);
        async move { world.deliver(event, json!({ "secret": secret })).await }
    };
    assert_eq!(statuses("whsec_new").await, [400]);
    set_secrets(&world, &["whsec_new", SECRET]).await;
    // A function that gets an invalid signature fetches the secret again, but only once in a few seconds.
    until("the new secret", Duration::from_secs(30), || async { (statuses("whsec_new").await == [200]).then_some(()) }).await;
    assert_eq!(statuses(SECRET).await, [200]);
    // During a roll Stripe signs with both secrets, and either is accepted.
    let endpoint = json!({ "url": world.url("/api/webhooks/stripe"), "secret": "whsec_unknown", "old_secret": SECRET });
    world.stripe("endpoint", endpoint).await;
    let other = world.account(0).await;
    let customer = other.customer().await;
    assert!(customer.starts_with("cus_"));
    // Restores the first secret.
    set_secrets(&world, &[SECRET]).await;
    world.stripe("endpoint", json!({ "url": world.url("/api/webhooks/stripe"), "secret": SECRET })).await;
}

#[stack_test(alone)]
async fn events_are_accepted_while_the_database_is_down(world: Arc<World>) {
    world.set_visibility_timeout(Queue::StripeEvents, 2).await;
    let account = world.account(0).await;
    let session = account.checkout(10).await;
    world.stripe("pause", json!({ "match": session })).await;
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let event = world.stripe_event("checkout.session.completed", &session).await;
    world.until_empty(Queue::StripeEvents).await;
    world.stack.stop_postgres().await;
    let started = Instant::now();
    assert_eq!(world.deliver(&event, json!({})).await, [200]);
    let took = started.elapsed();
    let more = world.deliver(&event, json!({ "times": 3 })).await;
    world.stack.start_postgres().await.unwrap();
    assert_eq!(more, [200, 200, 200]);
    assert!(took < Duration::from_secs(5), "{took:?}");
    account.until_balance(10).await;
    world.until_empty(Queue::StripeEvents).await;
    assert_eq!(account.amounts("purchase").await, [10]);
    world.set_visibility_timeout(Queue::StripeEvents, 180).await;
    world.stripe("resume", json!({ "match": session })).await;
}

#[stack_test(alone)]
async fn an_unavailable_queue_makes_stripe_retry(world: Arc<World>) {
    let account = world.account(0).await;
    let session = account.checkout(10).await;
    let before =
        world.set_variable("stripe_webhook", "STRIPE_EVENTS_QUEUE_URL", &format!("{}-gone", world.queue_url(Queue::StripeEvents))).await;
    let probe = idle_event(&world);
    let body = probe.to_string();
    let header = world.sign(&body, SECRET, None).await;
    let answer = until("a response without the queue", Duration::from_mins(1), || async {
        let answer = world.webhook(body.clone(), Some(&header)).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    answer.problem(503, "SERVICE_UNAVAILABLE");
    world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
    let event = world.stripe_event("checkout.session.completed", &session).await;
    let url = format!("{}/_control/stripe/deliveries?event={}", world.stack.info().sandbox, event["id"].as_str().unwrap());
    let attempts = || async { world.http.get(&url).send().await.unwrap().json::<Vec<Value>>().await.unwrap() };
    let failed = until("a failed delivery", Duration::from_secs(30), || async { attempts().await.into_iter().next() }).await;
    assert_eq!(failed["status"], 503);
    assert_eq!(account.balance().await, 0);
    world.set_variable("stripe_webhook", "STRIPE_EVENTS_QUEUE_URL", &before).await;
    account.until_balance(10).await;
    let attempts = attempts().await;
    assert!(attempts.len() > 1 && attempts.last().unwrap()["status"] == 200, "{attempts:?}");
}
