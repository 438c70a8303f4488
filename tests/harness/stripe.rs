//! Stripe's side: what people and banks do there, its events, and the queue that they go through.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use super::{Account, Answer, World, until};

/// The key that the sandbox's Stripe takes.
const API_KEY: &str = "sk_test_sandbox";
const WEBHOOK: &str = "/api/webhooks/stripe";
/// How long events may take to the books.
const PATIENCE: Duration = Duration::from_mins(1);

/// A queue of Stripe's events.
#[derive(Clone, Copy)]
pub enum Feed {
    /// The one that the consumer reads.
    Events,
    /// Where they end that could not be taken.
    DeadLetters,
}

/// Chance that can be repeated: `SplitMix64`.
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }

    /// The same things in another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

impl World {
    fn stripe_control(&self, path: &str) -> String {
        format!("{}/_control/stripe/{path}", self.stack.info().sandbox)
    }

    /// Gives Stripe's stand-in an order.
    pub async fn stripe(&self, path: &str, order: Value) -> Value {
        let response = self.http.post(self.stripe_control(path)).json(&order).send().await.expect("the sandbox answers");
        let (status, body) = (response.status(), response.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Events that contain the text or are about that customer, in the order in which they were made.
    pub async fn stripe_events(&self, text: &str) -> Vec<Value> {
        let request = self.http.get(self.stripe_control("events")).query(&[("match", text)]);
        request.send().await.expect("the sandbox answers").json().await.expect("a list")
    }

    /// The one event of that type that contains the text.
    pub async fn stripe_event(&self, kind: &str, text: &str) -> Value {
        let mut found: Vec<Value> = self.stripe_events(text).await.into_iter().filter(|event| event["type"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind} of {text}");
        found.remove(0)
    }

    /// An object as Stripe's API shows it, such as `checkout/sessions/cs_…`.
    pub async fn stripe_object(&self, path: &str) -> Value {
        let url = format!("{}/stripe/v1/{path}", self.stack.info().sandbox);
        let response = self.http.get(url).bearer_auth(API_KEY).send().await.expect("Stripe answers");
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.expect("JSON")
    }

    /// Delivers an event as `order` says. Answers the statuses.
    pub async fn deliver(&self, event: &Value, order: Value) -> Vec<Value> {
        let answer = self.stripe(&format!("events/{}/deliver", event["id"].as_str().expect("an id")), order).await;
        answer["statuses"].as_array().expect("a list").clone()
    }

    /// The signature of a body, by `secret`, at `timestamp` or now.
    pub async fn sign(&self, body: &str, secret: &str, timestamp: Option<i64>) -> String {
        let mut order = json!({ "body": body, "secret": secret });
        if let Some(timestamp) = timestamp {
            order["timestamp"] = json!(timestamp);
        }
        self.stripe("sign", order).await["header"].as_str().expect("a header").to_owned()
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

    /// An event of our own making, signed and sent. It must be taken.
    pub async fn send_event(&self, event: &Value) {
        let body = event.to_string();
        let signature = self.sign(&body, "whsec_sandbox", None).await;
        self.webhook(body, Some(&signature)).await.data(200);
    }

    /// Whether the event is in the books.
    pub async fn is_booked(&self, event: &Value) -> bool {
        let id = event["id"].as_str().expect("an id");
        self.db.value::<i32>("SELECT 1 FROM webhook_events WHERE stripe_event_id = $1", &[&id]).await.is_some()
    }

    /// Waits until every event about the text is in the books.
    pub async fn until_booked(&self, text: &str) {
        until(&format!("the events of {text} in the books"), PATIENCE, || async {
            let events = self.stripe_events(text).await;
            let ids: Vec<String> = events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect();
            let sql = "SELECT count(*) FROM webhook_events WHERE stripe_event_id = ANY ($1)";
            let booked: Option<i64> = self.db.value(sql, &[&ids]).await;
            (booked == i64::try_from(ids.len()).ok()).then_some(())
        })
        .await;
    }

    /// Waits until nothing is in the queue or on its way to the books.
    pub async fn until_drained(&self) {
        until("an empty queue", PATIENCE, || async { (self.waiting(Feed::Events).await == 0).then_some(()) }).await;
    }

    /// Waits for Stripe's next second: what happens within one has no order that its events could tell.
    pub async fn next_second(&self) {
        let now = jiff::Timestamp::now().as_second();
        until("the next second", PATIENCE, || async { (jiff::Timestamp::now().as_second() > now).then_some(()) }).await;
    }
}

impl World {
    pub fn queue_url(&self, feed: Feed) -> &str {
        &self.stack.outputs()[match feed {
            Feed::Events => "StripeEventsUrl",
            Feed::DeadLetters => "StripeEventsDeadLettersUrl",
        }]
    }

    /// How many messages a queue holds, those at work included.
    pub async fn waiting(&self, feed: Feed) -> u32 {
        const COUNTS: [QueueAttributeName; 2] =
            [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
        let request = self.sqs.get_queue_attributes().queue_url(self.queue_url(feed)).set_attribute_names(Some(COUNTS.to_vec()));
        let attributes = request.send().await.expect("the queue answers").attributes.expect("attributes");
        COUNTS.iter().map(|name| attributes[name].parse::<u32>().expect("a number")).sum()
    }

    /// Sets after how many seconds a message comes again whose delivery was not acknowledged.
    pub async fn set_visibility_timeout(&self, seconds: u32) {
        let request = self.sqs.set_queue_attributes().queue_url(self.queue_url(Feed::Events));
        request.attributes(QueueAttributeName::VisibilityTimeout, seconds.to_string()).send().await.expect("the queue is set");
    }

    /// Sets a variable of a function's environment. Answers what it was.
    pub async fn set_variable(&self, binary: &str, name: &str, value: &str) -> String {
        let function = &self.stack.functions()[binary];
        let now = self.lambda.get_function_configuration().function_name(function).send().await.expect("a function");
        let mut variables = now.environment.and_then(|environment| environment.variables).expect("variables");
        let before = variables.insert(name.to_owned(), value.to_owned()).expect("the variable was set");
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
        let request = self.lambda.update_function_configuration().function_name(function).environment(environment);
        request.send().await.expect("the function is set");
        before
    }
}

impl Account {
    /// Asks for a purchase, with an idempotency key if there is one.
    pub async fn purchase(&self, body: &Value, key: Option<&str>) -> Answer {
        let request = self.world.http.post(self.world.url("/api/credits/purchase")).bearer_auth(&self.token).json(body);
        self.world
            .send(match key {
                Some(key) => request.header("idempotency-key", key),
                None => request,
            })
            .await
    }

    /// Opens a checkout. Answers its session's id.
    pub async fn checkout(&self, credits: u32) -> String {
        let data = self.purchase(&json!({ "amount": credits }), None).await.data(201);
        data["session_id"].as_str().expect("an id").to_owned()
    }

    /// Buys credits. Answers the payment intent.
    pub async fn buy(&self, credits: u32) -> String {
        let session = self.checkout(credits).await;
        let paid = self.world.stripe(&format!("sessions/{session}/pay"), json!({})).await;
        self.world.until_booked(&session).await;
        paid["payment_intent"].as_str().expect("a payment intent").to_owned()
    }

    /// Makes the account's customer and waits until we know it.
    pub async fn customer(&self) -> String {
        let customer = self.unknown_customer().await;
        self.world.until_booked(&customer).await;
        customer
    }

    /// Makes the account's customer.
    pub async fn unknown_customer(&self) -> String {
        let url = format!("{}/stripe/v1/customers", self.world.stack.info().sandbox);
        let form = [("metadata[account_id]", &self.id)];
        let made = self.world.http.post(url).bearer_auth(API_KEY).form(&form).send().await.expect("Stripe answers");
        let made: Value = made.json().await.expect("JSON");
        made["id"].as_str().expect("an id").to_owned()
    }

    /// The ledger's entries of a type, amounts in order.
    pub async fn amounts(&self, kind: &str) -> Vec<i32> {
        let sql = "SELECT amount FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2 ORDER BY entry_no";
        self.world.db.rows(sql, &[&self.id, &kind]).await.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until the balance is `credits`.
    pub async fn until_balance(&self, credits: i32) {
        until(&format!("a balance of {credits}"), PATIENCE, || async { (self.balance().await == credits).then_some(()) }).await;
    }

    /// As if so many credits had been used up.
    pub async fn spend(&self, credits: i32) {
        let sql = "SELECT chargeback_credits($1::text::uuid, $2, 'spent:' || gen_random_uuid())";
        assert_eq!(self.world.db.value::<i32>(sql, &[&self.id, &credits]).await, Some(credits));
    }
}
