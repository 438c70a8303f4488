//! Tests of the account through its HTTP API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::delivery::signature;
use crate::{Options, Sandbox, serve};

const KEY: &str = "sk_test_sandbox";

struct Client {
    sandbox: Sandbox,
    http: reqwest::Client,
}

impl Client {
    async fn new() -> Self {
        let client =
            Self { sandbox: serve(Options::default()).await.unwrap(), http: reqwest::Client::builder().no_proxy().build().unwrap() };
        client.control("/latency", json!({"vendor": "stripe", "ms": 0})).await;
        client
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url)
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        let response = self.http.post(self.url(&format!("/_control{path}"))).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path} {body}");
        response.json().await.unwrap()
    }

    async fn read_control(&self, path: &str) -> Value {
        self.http.get(self.url(&format!("/_control{path}"))).send().await.unwrap().json().await.unwrap()
    }

    fn post(&self, path: &str, key: Option<&str>, form: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(self.url(&format!("/stripe/v1{path}"))).bearer_auth(KEY).body(form.to_owned());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    }

    async fn get(&self, path: &str) -> Value {
        self.http.get(self.url(&format!("/stripe/v1{path}"))).bearer_auth(KEY).send().await.unwrap().json().await.unwrap()
    }

    async fn customer(&self, email: &str) -> String {
        let made: Value = self.post("/customers", None, &format!("email={email}")).send().await.unwrap().json().await.unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    /// Starts an endpoint that rejects this many deliveries and returns those that it accepts.
    async fn endpoint(&self, refusals: usize) -> mpsc::UnboundedReceiver<(String, String)> {
        let (accepted, inbox) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicUsize::new(refusals));
        let take = async move |headers: HeaderMap, body: Bytes| {
            let refused = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if refused {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let header = headers["stripe-signature"].to_str().unwrap().to_owned();
            accepted.send((header, String::from_utf8(body.to_vec()).unwrap())).unwrap();
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(take))).await });
        self.control("/stripe/endpoint", json!({"url": url, "old_secret": "whsec_old"})).await;
        inbox
    }
}

#[tokio::test]
async fn a_rejected_delivery_is_retried_with_a_new_signature_until_it_is_accepted() {
    let client = Client::new().await;
    let mut inbox = client.endpoint(2).await;
    let customer = client.customer("a@example.com").await;
    let (header, body) = tokio::time::timeout(Duration::from_secs(20), inbox.recv()).await.unwrap().unwrap();
    let parts: Vec<&str> = header.split(',').collect();
    let timestamp: i64 = parts[0].strip_prefix("t=").unwrap().parse().unwrap();
    assert_eq!(parts[1], format!("v1={}", signature("whsec_sandbox", timestamp, &body)));
    assert_eq!(parts[2], format!("v1={}", signature("whsec_old", timestamp, &body)));
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&event["type"], &event["data"]["object"]["id"]), (&json!("customer.created"), &json!(customer)));
    assert_eq!(event["pending_webhooks"], 1);
    let id = event["id"].as_str().unwrap();
    // The endpoint has responded, but the response may not have arrived.
    while client.get(&format!("/events/{id}")).await["pending_webhooks"] != 0 {
        tokio::task::yield_now().await;
    }
    let attempts = client.read_control(&format!("/stripe/deliveries?event={id}")).await;
    let statuses: Vec<&Value> = attempts.as_array().unwrap().iter().map(|attempt| &attempt["status"]).take(2).collect();
    assert_eq!(statuses, [&json!(503), &json!(503)]);
}

#[tokio::test]
async fn held_events_are_sent_on_request_or_when_released() {
    let client = Client::new().await;
    let mut inbox = client.endpoint(0).await;
    client.control("/stripe/pause", json!({"match": "held"})).await;
    let held = client.customer("held@example.com").await;
    let free = client.customer("free@example.com").await;
    let (_, first) = inbox.recv().await.unwrap();
    assert!(first.contains(&free));
    let events = client.read_control(&format!("/stripe/events?object={held}")).await;
    let path = format!("/stripe/events/{}/deliver", events[0]["id"].as_str().unwrap());
    assert_eq!(client.control(&path, json!({"times": 2})).await, json!({"statuses": [200, 200]}));
    assert_eq!(client.control("/stripe/resume", json!({"match": "other", "send_held": true})).await, json!({"released": 0}));
    assert_eq!(client.control("/stripe/resume", json!({"send_held": true})).await, json!({"released": 1}));
    for _ in 0..3 {
        assert!(inbox.recv().await.unwrap().1.contains(&held));
    }
}

#[tokio::test]
async fn concurrent_requests_with_one_key_create_one_customer() {
    let client = Client::new().await;
    client.control("/latency", json!({"vendor": "stripe", "ms": 200})).await;
    let twins = (0..5).map(|_| client.post("/customers", Some("k-1"), "email=twin%40example.com").send());
    let statuses: Vec<u16> = futures::future::join_all(twins).await.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 4, "{statuses:?}");
    let again = client.post("/customers", Some("k-1"), "email=twin%40example.com").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    let found = client.get("/customers?email=twin%40example.com").await;
    assert_eq!((found["data"].as_array().unwrap().len(), &found["data"][0]["id"]), (1, &again.json::<Value>().await.unwrap()["id"]));
}

#[tokio::test]
async fn a_client_that_disconnects_gets_the_response_with_its_key() {
    let client = Client::new().await;
    client.control("/faults", json!({"vendor": "stripe", "op": "customers", "fault": {"kind": "hang", "seconds": 30}, "times": 1})).await;
    let left = client.post("/customers", Some("k-2"), "email=gone%40example.com").timeout(Duration::from_millis(300)).send().await;
    assert!(left.unwrap_err().is_timeout());
    let answer = loop {
        let answer = client.post("/customers", Some("k-2"), "email=gone%40example.com").send().await.unwrap();
        if answer.status() != 409 {
            break answer;
        }
    };
    assert_eq!((answer.status().as_u16(), answer.headers()["idempotent-replayed"].to_str().unwrap()), (200, "true"));
}

#[tokio::test]
async fn an_error_is_logged_and_has_stripes_format() {
    let client = Client::new().await;
    let refused = client.post("/checkout/sessions", Some("k-3"), "mode=payment&payment_method_types[0]=card").send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.headers()["stripe-version"], super::ledger::API_VERSION);
    let body: Value = refused.json().await.unwrap();
    assert_eq!((&body["error"]["type"], &body["error"]["param"]), (&json!("invalid_request_error"), &json!("payment_method_types")));
    let unauthenticated = client.http.get(client.url("/stripe/v1/customers")).basic_auth("sk_wrong", Some("")).send().await.unwrap();
    assert_eq!(unauthenticated.status(), 401);
    let friend = client.http.get(client.url("/stripe/v1/customers")).basic_auth(KEY, Some("")).send().await.unwrap();
    assert_eq!(friend.status(), 200);
    let old =
        client.http.get(client.url("/stripe/v1/customers")).bearer_auth(KEY).header("stripe-version", "2024-06-20").send().await.unwrap();
    assert_eq!(old.status(), 400);
    assert_eq!(client.get("/luck").await["error"]["type"], "invalid_request_error");
    let calls = client.read_control("/calls?vendor=stripe&match=k-3").await;
    assert_eq!((&calls[0]["op"], &calls[0]["outcome"], &calls[0]["status"]), (&json!("sessions"), &json!("rejected"), &json!(400)));
}

#[tokio::test]
async fn the_page_of_a_session_takes_a_payment_and_redirects() {
    let client = Client::new().await;
    let form = "mode=payment&success_url=http%3A%2F%2Fshop.example%2F%3Fs%3D%7BCHECKOUT_SESSION_ID%7D&cancel_url=http%3A%2F%2Fshop.example%2F%3Fa%26b\
                &line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=970\
                &line_items[0][price_data][product_data][name]=%3Cb%3E10%20credits&line_items[0][quantity]=1";
    let session: Value = client.post("/checkout/sessions", None, form).send().await.unwrap().json().await.unwrap();
    let (id, url) = (session["id"].as_str().unwrap(), session["url"].as_str().unwrap());
    let page = client.http.get(url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("9.70 USD") && page.contains("&lt;b&gt;10 credits") && page.contains("?a&amp;b"), "{page}");
    let shopper = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let paid = shopper.post(url).send().await.unwrap();
    assert_eq!((paid.status().as_u16(), paid.headers()["location"].to_str().unwrap()), (303, &*format!("http://shop.example/?s={id}")));
    assert_eq!(client.get(&format!("/checkout/sessions/{id}")).await["payment_status"], "paid");
    assert_eq!(shopper.post(url).send().await.unwrap().status(), 400, "a session is paid once");
}

#[tokio::test]
async fn invalid_requests_are_rejected() {
    let client = Client::new().await;
    for (path, body, status) in [
        ("/endpoint", json!({"url": "nowhere"}), 400),
        ("/sessions/cs_none/pay", json!({}), 404),
        ("/sessions/cs_none/pay", json!({"method": "luck"}), 400),
        ("/subscriptions/sub_none/renew", json!({}), 404),
        ("/customers/cus_none/subscribe", json!({"price": "price_pro"}), 404),
        ("/payment_intents/pi_none/refund", json!({}), 404),
        ("/luck/pi_none/dispute", json!({}), 404),
        ("/events/evt_none/deliver", json!({}), 404),
        ("/sign", json!({}), 400),
    ] {
        let response = client.http.post(client.url(&format!("/_control/stripe{path}"))).json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {body}");
        assert!(response.json::<Value>().await.unwrap()["error"].is_string());
    }
}

#[tokio::test]
async fn a_balance_names_the_invoice_that_moved_it() {
    let client = Client::new().await;
    let customer = client.customer("balance@example.com").await;
    client.control(&format!("/stripe/customers/{customer}/credit"), json!({"amount": 3500})).await;
    let started = client.control(&format!("/stripe/customers/{customer}/subscribe"), json!({"price": "price_pro"})).await;
    let invoice = client.get(&format!("/invoices/{}", started["latest_invoice"].as_str().unwrap())).await;
    let amounts =
        ["total", "amount_due", "amount_paid", "starting_balance", "ending_balance"].map(|field| invoice[field].as_i64().unwrap());
    assert_eq!((amounts, &invoice["status"]), ([3000, 0, 0, -3500, -500], &json!("paid")));
    let entries = client.get(&format!("/customers/{customer}/balance_transactions")).await;
    let entry = |index: usize| ["type", "amount", "ending_balance", "invoice"].map(|field| entries["data"][index][field].clone());
    assert_eq!(entry(0), [json!("applied_to_invoice"), json!(3000), json!(-500), invoice["id"].clone()]);
    assert_eq!(entry(1), [json!("adjustment"), json!(-3500), json!(-3500), json!(null)]);
    assert_eq!(client.get("/customers/cus_none/balance_transactions").await["error"]["code"], "resource_missing");
}

#[tokio::test]
async fn a_presented_price_is_disputed_in_the_payers_currency() {
    let client = Client::new().await;
    let form = "mode=payment&success_url=http%3A%2F%2Fshop.example%2F&line_items[0][price_data][currency]=usd\
                &line_items[0][price_data][unit_amount]=1000&line_items[0][price_data][product_data][name]=x&line_items[0][quantity]=1";
    let session: Value = client.post("/checkout/sessions", None, form).send().await.unwrap().json().await.unwrap();
    let presented = json!({"presentment_amount": 900, "presentment_currency": "eur"});
    let pay = format!("/stripe/sessions/{}/pay", session["id"].as_str().unwrap());
    let paid = client.control(&pay, json!({"presented": presented})).await;
    assert_eq!((&paid["currency"], &paid["amount_total"], &paid["presentment_details"]), (&json!("usd"), &json!(1000), &presented));
    let intent = paid["payment_intent"].as_str().unwrap();
    let dispute = client.control(&format!("/stripe/payment_intents/{intent}/dispute"), json!({"amount": 450})).await;
    assert_eq!((&dispute["currency"], &dispute["amount"]), (&json!("eur"), &json!(450)));
    assert_eq!(dispute["balance_transactions"][0]["amount"], -500);
    let charges = client.get(&format!("/charges?payment_intent={intent}")).await;
    assert_eq!((&charges["data"][0]["currency"], &charges["data"][0]["presentment_details"]), (&json!("usd"), &presented));
}
