//! Stripe: its control API, its events, and the purchases of an account.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Account, Answer, World, until};

/// The API key of the sandbox's Stripe.
const API_KEY: &str = "sk_test_sandbox";
const WEBHOOK: &str = "/api/webhooks/stripe";
/// The longest time from an event to its entries in the ledger.
const EVENT_TIMEOUT: Duration = Duration::from_mins(1);

impl World {
    fn stripe_control(&self, path: &str) -> String {
        format!("{}/_control/stripe/{path}", self.stack.info().sandbox)
    }

    /// Sends a request to Stripe's control API and returns its response.
    pub async fn stripe(&self, path: &str, body: Value) -> Value {
        let response = self.http.post(self.stripe_control(path)).json(&body).send().await.expect("a response of the sandbox");
        let (status, text) = (response.status(), response.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Returns the events that contain the text or concern this customer, in the order of their creation.
    pub async fn stripe_events(&self, text: &str) -> Vec<Value> {
        let request = self.http.get(self.stripe_control("events")).query(&[("match", text)]);
        request.send().await.expect("a response of the sandbox").json().await.expect("a list")
    }

    /// Returns the one event of this type that contains the text.
    pub async fn stripe_event(&self, kind: &str, text: &str) -> Value {
        let mut found: Vec<Value> = self.stripe_events(text).await.into_iter().filter(|event| event["type"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind} of {text}");
        found.remove(0)
    }

    /// Returns an object of Stripe's API, such as `checkout/sessions/cs_…`.
    pub async fn stripe_object(&self, path: &str) -> Value {
        let url = format!("{}/stripe/v1/{path}", self.stack.info().sandbox);
        let response = self.http.get(url).bearer_auth(API_KEY).send().await.expect("a response of Stripe");
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.expect("JSON")
    }

    /// Creates a monthly price of another product and returns its id.
    pub async fn stripe_price(&self, cents: i64) -> String {
        let url = format!("{}/stripe/v1/prices", self.stack.info().sandbox);
        let cents = cents.to_string();
        let form = [("currency", "usd"), ("unit_amount", &cents), ("recurring[interval]", "month"), ("product_data[name]", "Newsletter")];
        let created = self.http.post(url).bearer_auth(API_KEY).form(&form).send().await.expect("a response of Stripe");
        let created: Value = created.json().await.expect("JSON");
        created["id"].as_str().unwrap_or_else(|| panic!("a price: {created}")).to_owned()
    }

    /// Delivers an event with these options and returns the statuses.
    pub async fn deliver(&self, event: &Value, options: Value) -> Vec<Value> {
        let answer = self.stripe(&format!("events/{}/deliver", event["id"].as_str().expect("an id")), options).await;
        answer["statuses"].as_array().expect("a list").clone()
    }

    /// Returns the signature header of a body, by `secret`, at `timestamp` or now.
    pub async fn sign(&self, body: &str, secret: &str, timestamp: Option<i64>) -> String {
        let mut request = json!({ "body": body, "secret": secret });
        if let Some(timestamp) = timestamp {
            request["timestamp"] = json!(timestamp);
        }
        self.stripe("sign", request).await["header"].as_str().expect("a header").to_owned()
    }

    /// Sends a body to the webhook.
    pub async fn webhook(&self, body: impl Into<reqwest::Body>, signature: Option<&str>) -> Answer {
        let request = self.http.post(self.url(WEBHOOK)).header("content-type", "application/json; charset=utf-8").body(body);
        self.send(match signature {
            Some(signature) => request.header("stripe-signature", signature),
            None => request,
        })
        .await
    }

    /// Signs an event and sends it to the webhook, which must accept it.
    pub async fn send_event(&self, event: &Value) {
        let body = event.to_string();
        let signature = self.sign(&body, "whsec_sandbox", None).await;
        self.webhook(body, Some(&signature)).await.data(200);
    }

    /// Returns whether the event is recorded.
    pub async fn is_recorded(&self, event: &Value) -> bool {
        let id = event["id"].as_str().expect("an id");
        self.db.value::<i32>("SELECT 1 FROM webhook_events WHERE stripe_event_id = $1", &[&id]).await.is_some()
    }

    /// Waits until every event that concerns the text is recorded.
    pub async fn until_recorded(&self, text: &str) {
        until(&format!("the events of {text}"), EVENT_TIMEOUT, || async {
            let events = self.stripe_events(text).await;
            let ids: Vec<String> = events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect();
            let sql = "SELECT count(*) FROM webhook_events WHERE stripe_event_id = ANY ($1)";
            let recorded: Option<i64> = self.db.value(sql, &[&ids]).await;
            (recorded == i64::try_from(ids.len()).ok()).then_some(())
        })
        .await;
    }

    /// Waits for the next second. Events within one second have no order, as Stripe's times are seconds.
    pub async fn next_second(&self) {
        let now = jiff::Timestamp::now().as_second();
        until("the next second", EVENT_TIMEOUT, || async { (jiff::Timestamp::now().as_second() > now).then_some(()) }).await;
    }
}

impl Account {
    /// Requests a purchase, with an idempotency key if there is one.
    pub async fn purchase(&self, body: &Value, key: Option<&str>) -> Answer {
        let request = self.world.http.post(self.world.url("/api/credits/purchase")).bearer_auth(&self.token).json(body);
        self.world
            .send(match key {
                Some(key) => request.header("idempotency-key", key),
                None => request,
            })
            .await
    }

    /// Opens a checkout and returns its session's id.
    pub async fn checkout(&self, credits: u32) -> String {
        let data = self.purchase(&json!({ "amount": credits }), None).await.data(201);
        data["session_id"].as_str().expect("an id").to_owned()
    }

    /// Buys credits and returns the payment intent's id.
    pub async fn buy(&self, credits: u32) -> String {
        let session = self.checkout(credits).await;
        let paid = self.world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
        self.world.until_recorded(&session).await;
        paid["payment_intent"].as_str().expect("a payment intent").to_owned()
    }

    /// Creates the account's customer and waits until the event is recorded.
    pub async fn customer(&self) -> String {
        let customer = self.unrecorded_customer().await;
        self.world.until_recorded(&customer).await;
        customer
    }

    /// Creates the account's customer without waiting for the event.
    pub async fn unrecorded_customer(&self) -> String {
        let url = format!("{}/stripe/v1/customers", self.world.stack.info().sandbox);
        let form = [("metadata[account_id]", &self.id)];
        let created = self.world.http.post(url).bearer_auth(API_KEY).form(&form).send().await.expect("a response of Stripe");
        let created: Value = created.json().await.expect("JSON");
        created["id"].as_str().expect("an id").to_owned()
    }

    /// Returns the amounts of the ledger entries of a type, in order.
    pub async fn amounts(&self, kind: &str) -> Vec<i32> {
        let sql = "SELECT amount FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2 ORDER BY entry_no";
        self.world.db.rows(sql, &[&self.id, &kind]).await.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until the balance is `credits`.
    pub async fn until_balance(&self, credits: i32) {
        until(&format!("a balance of {credits}"), EVENT_TIMEOUT, || async { (self.balance().await == credits).then_some(()) }).await;
    }

    /// Removes credits, as if they had been used up.
    pub async fn spend(&self, credits: i32) {
        let sql = "SELECT chargeback_credits($1::text::uuid, $2, 'spent:' || gen_random_uuid())";
        assert_eq!(self.world.db.value::<i32>(sql, &[&self.id, &credits]).await, Some(credits));
    }
}
