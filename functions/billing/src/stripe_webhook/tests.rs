//! Signatures and failures, with an unavailable queue: an event that reaches it was accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use lambda_http::Body;
use oslira_aws::SdkConfig;
use oslira_credential::{Credential, CredentialError};
use oslira_vendors::stripe::StripeWebhookSecret;

use super::*;

const EVENT: &str = r#"{"id":"evt_1","object":"event","type":"invoice.paid","created":1,"data":{"object":{}}}"#;

/// Returns a webhook whose first fetch of the secrets returns `old`, and every later one `new`, and the number of fetches.
fn webhook(old: &'static [&'static str], new: &'static [&'static str]) -> (StripeWebhook, Arc<AtomicUsize>) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let secret = Credential::new(move || {
        let secrets = if count.fetch_add(1, Ordering::Relaxed) == 0 { old } else { new };
        std::future::ready(Ok(StripeWebhookSecret { secrets: secrets.iter().map(|secret| (*secret).into()).collect() }))
    });
    (StripeWebhook { verifier: SignatureVerifier::new(secret), queue: unreachable_queue() }, fetches)
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

async fn code(webhook: StripeWebhook, delivery: Delivery) -> &'static str {
    stripe_webhook(delivery, webhook).await.unwrap_err().code()
}

#[tokio::test]
async fn only_events_that_stripe_has_signed_are_queued() {
    let secrets = &["whsec_a", "whsec_b"];
    let (webhook, _) = self::webhook(secrets, secrets);
    for secret in ["whsec_a", "whsec_b"] {
        let header = signature(secret, EVENT.as_bytes());
        assert_eq!(code(webhook.clone(), delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
        assert_eq!(code(webhook.clone(), delivery(Some(&header), EVENT.as_bytes())).await, "SERVICE_UNAVAILABLE");
        assert_eq!(code(webhook.clone(), delivery(Some(&header), format!("{EVENT} "))).await, "SIGNATURE_INVALID");
    }
    assert_eq!(code(webhook.clone(), delivery(None, EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(code(webhook.clone(), delivery(Some("t=1,v1=00"), EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(code(webhook.clone(), delivery(Some("nonsense"), EVENT)).await, "SIGNATURE_INVALID");
    let (webhook, fetches) = self::webhook(secrets, secrets);
    let header = signature("whsec_other", EVENT.as_bytes());
    assert_eq!(code(webhook, delivery(Some(&header), EVENT)).await, "SIGNATURE_INVALID");
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_secret_that_was_rolled_just_now_is_fetched() {
    let (webhook, fetches) = webhook(&["whsec_old"], &["whsec_new"]);
    let header = signature("whsec_new", EVENT.as_bytes());
    assert_eq!(code(webhook, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_rejected() {
    let (webhook, _) = webhook(&["whsec_a"], &[]);
    for body in ["", "[]", r#"{"object":"v2.core.event"}"#] {
        assert_eq!(code(webhook.clone(), delivery(Some(&signature("whsec_a", body.as_bytes())), body)).await, "INVALID_EVENT");
    }
    let binary = [b"\xff".as_slice(), EVENT.as_bytes()].concat();
    let header = signature("whsec_a", &binary);
    assert_eq!(code(webhook.clone(), delivery(Some(&header), binary)).await, "INVALID_EVENT");
    assert_eq!(code(webhook, delivery(None, "x".repeat(MAX_BYTES + 1))).await, "PAYLOAD_TOO_LARGE");
}

#[tokio::test]
async fn stripe_gets_503_while_events_cannot_be_queued() {
    let header = signature("whsec_a", EVENT.as_bytes());
    let (webhook, _) = webhook(&["whsec_a"], &[]);
    let started = Instant::now();
    assert_eq!(code(webhook, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
    assert!(started.elapsed() < Duration::from_secs(5));
    let secret = Credential::new(|| std::future::ready(Err(CredentialError::Unavailable("timeout".to_owned()))));
    let without_secrets = StripeWebhook { verifier: SignatureVerifier::new(secret), queue: unreachable_queue() };
    assert_eq!(code(without_secrets, delivery(Some(&header), EVENT)).await, "SERVICE_UNAVAILABLE");
}
