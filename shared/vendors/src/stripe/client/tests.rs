use oslira_credential::Refusal;
use serde_json::{Value, json};

use super::*;
use crate::stub::{Recorded, Script, Stub};

fn account() -> AccountId {
    "00000000-0000-0000-0000-00000000000a".parse().unwrap()
}

fn client(base_url: impl Into<String>, api_key: &str) -> Stripe {
    Stripe::new(crate::http_client().unwrap(), base_url, Credential::fixed(StripeSecret { api_key: api_key.into() }))
}

pub(super) async fn serving(scripts: Vec<Script>) -> (Stripe, Stub) {
    let stub = Stub::new(scripts).await;
    let stripe = client(format!("{}/", stub.url), "sk_test_secret");
    (Stripe { pause: Duration::from_millis(1), ..stripe }, stub)
}

fn refused(status: u16, error: &Value) -> Script {
    Script::json(status, &json!({ "error": error }))
}

/// The fields of a form, decoded, in their order.
fn form(text: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[tokio::test]
async fn a_customer_is_created_once_for_an_account() {
    let body = json!({"id": "cus_1", "object": "customer", "email": "jane@example.com"});
    let (stripe, stub) = serving(vec![Script::json(200, &body), Script::json(200, &body)]).await;
    assert_eq!(stripe.create_customer(account(), Some("jane+a@example.com")).await.unwrap(), "cus_1");
    assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
    let sent = stub.requests();
    assert_eq!(sent[0].line, "POST /v1/customers HTTP/1.1");
    for header in [
        "authorization: bearer sk_test_secret",
        "stripe-version: 2026-10-28.endive",
        "content-type: application/x-www-form-urlencoded",
        "idempotency-key: customer:00000000-0000-0000-0000-00000000000a:",
    ] {
        assert!(sent[0].headers.contains(header), "{header}");
    }
    let account_field = ("metadata[account_id]".to_owned(), account().to_string());
    assert_eq!(form(&sent[0].text), [account_field.clone(), ("email".to_owned(), "jane+a@example.com".to_owned())]);
    assert_eq!(form(&sent[1].text), [account_field]);
    // Another body needs another key.
    assert_ne!(sent[0].idempotency_key(), sent[1].idempotency_key());
}

#[tokio::test]
async fn a_stored_500_does_not_block_the_checkout() {
    let kept = refused(500, &json!({"type": "api_error"}));
    let scripts = [vec![kept; 3], vec![Script::json(200, &json!({"id": "cus_1"}))]].concat();
    let (stripe, stub) = serving(scripts).await;
    assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
    let keys: Vec<String> = stub.requests().iter().map(Recorded::idempotency_key).collect();
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[3] == format!("{}:2", keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_purchase_becomes_a_session() {
    let body = json!({"id": "cs_test_a1", "object": "checkout.session", "url": "https://checkout.stripe.com/c/pay/cs_test_a1",
        "expires_at": 1_795_400_000, "customer": "cus_1", "status": "open"});
    let (stripe, stub) = serving(vec![Script::json(200, &body)]).await;
    let account_id = account();
    let purchase = CreditPurchase {
        account_id,
        customer: "cus_1",
        credits: Credits(250),
        total_cents: 23_038,
        success_url: "https://app.example/credits?checkout=success&session_id={CHECKOUT_SESSION_ID}",
        cancel_url: "https://app.example/credits?checkout=cancelled",
        idempotency_key: "purchase:a:b",
    };
    let session = stripe.create_checkout_session(&purchase).await.unwrap();
    assert_eq!((session.id.as_str(), session.expires_at.as_second()), ("cs_test_a1", 1_795_400_000));
    assert_eq!(session.url, "https://checkout.stripe.com/c/pay/cs_test_a1");
    let sent = stub.requests().remove(0);
    assert_eq!(sent.line, "POST /v1/checkout/sessions HTTP/1.1");
    assert!(sent.headers.contains("idempotency-key: purchase:a:b"));
    let form = form(&sent.text);
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(field("success_url"), Some(purchase.success_url));
    assert_eq!(field("mode"), Some("payment"));
    assert_eq!(field("client_reference_id"), Some("00000000-0000-0000-0000-00000000000a"));
    assert_eq!(field("line_items[0][price_data][unit_amount]"), Some("23038"));
    assert_eq!(field("line_items[0][price_data][product_data][name]"), Some("250 Oslira credits"));
    for prefix in ["metadata", "payment_intent_data[metadata]"] {
        assert_eq!(field(&format!("{prefix}[kind]")), Some("credits"));
        assert_eq!(field(&format!("{prefix}[account_id]")), Some(account_id.to_string().as_str()));
        assert_eq!(field(&format!("{prefix}[credits]")), Some("250"));
        assert_eq!(field(&format!("{prefix}[total_cents]")), Some("23038"));
    }
    assert_eq!(form.len(), 17);
    assert!(form.iter().all(|(name, _)| !name.contains("payment_method_types"))); // endive took it away

    let (stripe, _stub) = serving(vec![Script::json(200, &json!({"id": "cs_1", "url": null, "expires_at": 1}))]).await;
    assert!(matches!(stripe.create_checkout_session(&purchase).await, Err(VendorError::Invalid(_))));
}

#[tokio::test]
async fn a_temporary_failure_is_retried_with_the_same_idempotency_key() {
    let customer = Script::json(200, &json!({"id": "cus_1"}));
    let busy = refused(409, &json!({"type": "invalid_request_error", "code": "idempotency_key_in_use"}));
    for first in [busy, refused(429, &json!({"code": "rate_limit"})), refused(500, &json!({"type": "api_error"})), Script::Close] {
        let (stripe, stub) = serving(vec![first, Script::BreakOff, customer.clone()]).await;
        assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
        let sent = stub.requests();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|request| request.headers.contains("idempotency-key: customer:0000")));
        assert!(sent.iter().all(|other| other.text == sent[0].text));
    }
    let (stripe, stub) = serving(vec![Script::Close; 9]).await;
    assert!(stripe.create_customer(account(), None).await.unwrap_err().is_retryable());
    assert_eq!(stub.requests().len(), 3);
}

#[tokio::test]
async fn stripe_decides_whether_and_when_to_retry() {
    let answer = |status, headers| Script::Respond(status, headers, br#"{"error":{"type":"api_error"}}"#.to_vec());
    let customer = Script::json(200, &json!({"id": "cus_1"}));
    let (stripe, stub) = serving(vec![answer(503, "Stripe-Should-Retry: false\r\n"), customer.clone()]).await;
    assert_eq!(stripe.create_customer(account(), None).await, Err(VendorError::Overloaded(503)));
    assert_eq!(stub.requests().len(), 1);
    let (stripe, stub) = serving(vec![answer(400, "Stripe-Should-Retry: true\r\n"), customer.clone()]).await;
    assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
    assert_eq!(stub.requests().len(), 2);
    // A second is waited for, a minute is not.
    let started = Instant::now();
    let (stripe, _stub) = serving(vec![answer(429, "Retry-After: 1\r\n"), customer.clone()]).await;
    assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let (stripe, stub) = serving(vec![answer(429, "Retry-After: 60\r\n"), customer]).await;
    let limited = VendorError::RateLimited { retry_after: Some(Duration::from_mins(1)) };
    assert_eq!(stripe.create_customer(account(), None).await, Err(limited));
    assert_eq!(stub.requests().len(), 1);
}

#[tokio::test]
async fn rejections_are_final_and_contain_nothing_private() {
    let rejected = |status, code: &str| VendorError::Rejected { status, code: code.to_owned() };
    let cases = [
        (401, json!({"type": "invalid_request_error"}), VendorError::Unauthorized),
        (403, json!({"type": "invalid_request_error", "code": "secret_key_required"}), VendorError::Unauthorized),
        (400, json!({"type": "idempotency_error"}), rejected(400, "idempotency_error")),
        (400, json!({"type": "invalid_request_error", "code": "email_invalid"}), rejected(400, "email_invalid")),
        (402, json!({"type": "card_error", "code": "card_declined"}), rejected(402, "card_declined")),
        (404, json!({"type": "invalid_request_error", "code": "resource_missing"}), rejected(404, "resource_missing")),
        (400, json!({"code": "No such jane@example.com"}), rejected(400, "no code")),
    ];
    for (status, mut body, expected) in cases {
        body["message"] = json!("Invalid API Key provided: sk_test_secret of jane@example.com");
        let (stripe, stub) = serving(vec![refused(status, &body); 2]).await;
        let error = stripe.create_customer(account(), Some("jane@example.com")).await.unwrap_err();
        assert_eq!(error, expected);
        assert!(!format!("{error} {error:?}").contains("secret") && !format!("{error:?}").contains("jane"));
        assert_eq!(stub.requests().len(), if error.is_refusal() { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_refused_key_is_renewed_for_the_same_request() {
    let refusal = Script::json(401, &json!({"error": {"type": "invalid_request_error"}}));
    let stub = Stub::new(vec![refusal, Script::json(200, &json!({"id": "cus_1"}))]).await;
    let keys = std::sync::Mutex::new(vec!["sk_test_new", "sk_test_old"]);
    let secret = Credential::new(move || {
        let api_key = keys.lock().unwrap().pop().unwrap().into();
        std::future::ready(Ok(StripeSecret { api_key }))
    });
    let stripe = Stripe::new(crate::http_client().unwrap(), &stub.url, secret);
    assert_eq!(stripe.create_customer(account(), None).await.unwrap(), "cus_1");
    let sent = stub.requests();
    assert!(sent[0].headers.contains("bearer sk_test_old") && sent[1].headers.contains("bearer sk_test_new"));
    assert_eq!(sent[0].idempotency_key(), sent[1].idempotency_key());
}

#[tokio::test]
async fn the_mode_of_the_key_is_known() {
    for (api_key, live) in [("sk_live_1", true), ("rk_live_1", true), ("sk_test_1", false), ("", false)] {
        let stripe = client("http://127.0.0.1:1", api_key);
        assert_eq!(stripe.has_key_of_mode(live).await, Ok(true), "{api_key}");
        assert_eq!(stripe.has_key_of_mode(!live).await, Ok(false), "{api_key}");
    }
}
