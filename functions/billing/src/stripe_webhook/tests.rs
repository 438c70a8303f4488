//! Signatures and failures, with a queue that is out of reach: an event that gets as far as that was accepted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use lambda_http::Body;
use oslira_aws::{AwsError, SdkConfig};

use super::*;

const EVENT: &str = r#"{"id":"evt_1","object":"event","type":"invoice.paid","created":1,"data":{"object":{}}}"#;

/// The secrets, the outdated ones first, and how often each was asked for.
fn receiver(old: &'static [&'static str], fresh: &'static [&'static str]) -> (Receiver, Arc<Mutex<Vec<bool>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let secrets: Fetcher<SigningSecrets, Problem> = Arc::new(move |refresh| {
        log.lock().unwrap().push(refresh);
        let secrets = if refresh { fresh } else { old };
        Box::pin(async move { Ok(SigningSecrets { secrets: secrets.iter().map(|secret| SecretString::from(*secret)).collect() }) })
    });
    (Receiver { secrets, queue: unreachable_queue() }, asked)
}

fn unreachable_queue() -> Queue {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
        .endpoint_url("http://127.0.0.1:1");
    Queue::new(&config.build(), "http://127.0.0.1:1/queue")
}

fn signature(secret: &str, body: &[u8]) -> String {
    let at = Timestamp::now().as_second();
    let signed = [format!("{at}.").as_bytes(), body].concat();
    format!("t={at},v1={}", hex::encode(sign(&Key::new(HMAC_SHA256, secret.as_bytes()), &signed)))
}

fn delivery(signature: Option<&str>, body: impl Into<Body>) -> Delivery {
    let mut request = lambda_http::Request::new(body.into());
    if let Some(signature) = signature {
        request.headers_mut().insert("stripe-signature", signature.parse().unwrap());
    }
    request.into()
}

async fn code(receiver: Receiver, delivery: Delivery) -> &'static str {
    stripe_webhook(delivery, receiver).await.unwrap_err().code()
}

#[tokio::test]
async fn only_what_stripe_has_signed_gets_to_the_queue() {
    let (receiver, asked) = receiver(&["whsec_a", "whsec_b"], &["whsec_a", "whsec_b"]);
    for secret in ["whsec_a", "whsec_b"] {
        let header = signature(secret, EVENT.as_bytes());
        assert_eq!(code(receiver.clone(), delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
        assert_eq!(code(receiver.clone(), delivery(Some(&header), EVENT.as_bytes())).await, "SERVICE_UNAVAILABLE");
        assert_eq!(code(receiver.clone(), delivery(Some(&header), format!("{EVENT} "))).await, "SIGNATURE_INVALID");
    }
    assert_eq!(code(receiver.clone(), delivery(None, EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(code(receiver.clone(), delivery(Some("t=1,v1=00"), EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(code(receiver.clone(), delivery(Some("nonsense"), EVENT)).await, "SIGNATURE_INVALID");
    asked.lock().unwrap().clear();
    let header = signature("whsec_other", EVENT.as_bytes());
    assert_eq!(code(receiver, delivery(Some(&header), EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(*asked.lock().unwrap(), [false, true]);
}

#[tokio::test]
async fn a_secret_that_was_rolled_just_now_is_fetched() {
    let (receiver, asked) = receiver(&["whsec_old"], &["whsec_new"]);
    let header = signature("whsec_new", EVENT.as_bytes());
    assert_eq!(code(receiver, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
    assert_eq!(*asked.lock().unwrap(), [false, true]);
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_refused() {
    let (receiver, _) = receiver(&["whsec_a"], &[]);
    for body in ["", "[]", r#"{"object":"v2.core.event"}"#] {
        assert_eq!(code(receiver.clone(), delivery(Some(&signature("whsec_a", body.as_bytes())), body)).await, "INVALID_EVENT");
    }
    let binary = [b"\xff".as_slice(), EVENT.as_bytes()].concat();
    let header = signature("whsec_a", &binary);
    assert_eq!(code(receiver.clone(), delivery(Some(&header), binary)).await, "INVALID_EVENT");
    assert_eq!(code(receiver, delivery(None, "x".repeat(MAX_BYTES + 1))).await, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn stripe_is_told_to_come_again_when_we_cannot_take_it() {
    let header = signature("whsec_a", EVENT.as_bytes());
    let (receiver, _) = receiver(&["whsec_a"], &[]);
    let started = Instant::now();
    assert_eq!(code(receiver, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
    assert!(started.elapsed() < Duration::from_secs(5));
    let secrets: Fetcher<SigningSecrets, Problem> =
        Arc::new(|_| Box::pin(async { Err(Problem::from(AwsError::new("secretsmanager", "timeout"))) }));
    let blind = Receiver { secrets, queue: unreachable_queue() };
    assert_eq!(code(blind, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
}
