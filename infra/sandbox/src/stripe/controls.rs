//! The control API of Stripe, `/_control/stripe`: payments, renewals, refunds, disputes and the delivery of events.
//!
//! Requests and responses are JSON, errors `{"error": text}`. `?` marks an optional field.
//!
//! | request | fields | effect |
//! |---|---|---|
//! | `POST /endpoint` | `url`, `secret`?, `old_secret`? | sets the webhook endpoint; a null `url` removes it; `old_secret` signs too; `GET` returns the endpoint |
//! | `POST /pause` | `match`? | holds all events, or those that contain the text or concern this customer |
//! | `POST /resume` | `match`?, `send_held`? | removes a hold, or all without `match`; `send_held` sends the events that were held |
//! | `POST /sessions/{id}/pay` | `method`?: `card`, `delayed`, `fail`, `presented`? | pays a session; `presented` is the price in the payer's currency: `presentment_amount`, `presentment_currency` |
//! | `POST /sessions/{id}/settle` | `succeed` | settles or fails a delayed payment |
//! | `POST /customers/{id}/subscribe` | `price`, `add_on`?, `metadata`? | starts a subscription and pays its first invoice; `add_on` is the price of another product on it |
//! | `POST /customers/{id}/credit` | `amount` | gives credit to the customer's balance, which pays the next invoices |
//! | `POST /subscriptions/{id}/renew` | `fail`? | starts the next period: bills it, makes the subscription past due (`fail`), or ends it if that is scheduled |
//! | `POST /subscriptions/{id}/change` | `price`, `proration_behavior`? | changes the plan |
//! | `POST /subscriptions/{id}/cancel` | `at_period_end`? | ends the subscription, now or with its period, as the customer portal does: by `cancel_at` alone |
//! | `POST /subscriptions/{id}/{pause,resume}` | | pauses the subscription, or resumes it |
//! | `POST /invoices/{id}/{pay,pay_outside,void,mark_uncollectible}` | | pays a failed invoice, records that it was paid outside of Stripe, or ends its collection |
//! | `POST /{payment_intents,charges}/{id}/refund` | `amount`?, `reason`? | refunds a charge |
//! | `POST /refunds/{id}/fail` | | fails a refund: the money comes back |
//! | `POST /{payment_intents,charges}/{id}/dispute` | `amount`?, `reason`?, `case_type`?: `chargeback`, `inquiry`, `block` | opens a dispute; only a chargeback moves money |
//! | `POST /disputes/{id}/close` | `won` | decides a dispute |
//! | `GET /events` | `type`?, `object`?, `match`? in the query | returns the events in order |
//! | `POST /events/{id}/deliver` | `times`?, `concurrent`?, `secret`?, `timestamp`?, `extra_v1`?, `url`? | sends an event now, even a held one; returns the statuses |
//! | `GET /deliveries` | `event`? in the query | returns the automatic delivery attempts |
//! | `POST /sign` | `body`, `secret`?, `timestamp`? | returns the signature header of a body |

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::account::{Stripe, deliver_now};
use super::checkout::{Method, Presented};
use super::delivery::{self, DEFAULT_SECRET, DeliveryRequest, Endpoint};
use super::ledger::{Cause, Ledger, now, text};
use super::problem::Problem;
use super::reversals::CaseType;
use super::subscriptions::{NewSubscription, Proration};
use super::{checkout, customers, invoices, reversals, subscriptions};
use crate::wire;

/// Returns the routes below `/_control/stripe`.
pub(crate) fn routes(stripe: Arc<Stripe>) -> Router {
    Router::new()
        .route("/endpoint", post(set_endpoint).get(endpoint))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/sessions/{id}/pay", post(pay))
        .route("/sessions/{id}/settle", post(settle))
        .route("/customers/{id}/subscribe", post(subscribe))
        .route("/customers/{id}/credit", post(credit))
        .route("/subscriptions/{id}/renew", post(renew))
        .route("/subscriptions/{id}/change", post(change))
        .route("/subscriptions/{id}/cancel", post(cancel))
        .route("/subscriptions/{id}/pause", post(pause_subscription))
        .route("/subscriptions/{id}/resume", post(resume_subscription))
        .route("/invoices/{id}/pay", post(pay_invoice))
        .route("/invoices/{id}/pay_outside", post(pay_invoice_outside))
        .route("/invoices/{id}/void", post(void_invoice))
        .route("/invoices/{id}/mark_uncollectible", post(mark_uncollectible))
        .route("/refunds/{id}/fail", post(fail_refund))
        .route("/disputes/{id}/close", post(close_dispute))
        .route("/{kind}/{id}/refund", post(refund))
        .route("/{kind}/{id}/dispute", post(dispute))
        .route("/events", get(events))
        .route("/events/{id}/deliver", post(deliver))
        .route("/deliveries", get(deliveries))
        .route("/sign", post(sign))
        .with_state(stripe)
}

fn reject(status: u16, why: impl Into<String>) -> Response {
    wire::json(status, &json!({"error": why.into()}))
}

/// Reads a request. A missing body is an empty object.
fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string(), None, None))
}

fn respond(result: Result<Value, Problem>) -> Response {
    match result {
        Ok(value) => wire::json(200, &value),
        Err(problem) => reject(problem.status, problem.message),
    }
}

/// Reads a request and performs it.
fn perform<T: DeserializeOwned>(stripe: &Stripe, body: &Bytes, change: impl FnOnce(&mut Ledger, T) -> Result<Value, Problem>) -> Response {
    respond(parsed::<T>(body).and_then(|request| stripe.act(Cause::default(), |ledger| change(ledger, request))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    url: Option<String>,
    secret: Option<String>,
    old_secret: Option<String>,
}

async fn set_endpoint(State(stripe): State<Arc<Stripe>>, body: Bytes) -> Response {
    respond(parsed::<NewEndpoint>(&body).and_then(|new| {
        let secret = new.secret.unwrap_or_else(|| DEFAULT_SECRET.to_owned());
        if new.url.as_ref().is_some_and(|url| reqwest::Url::parse(url).is_err()) {
            return Err(Problem::invalid("url is not a URL", None, None));
        }
        let endpoint = new.url.map(|url| Endpoint { url, secret, old_secret: new.old_secret });
        stripe.courier.with(|outgoing| outgoing.endpoint = endpoint);
        Ok(endpoint_json(&stripe))
    }))
}

fn endpoint_json(stripe: &Stripe) -> Value {
    match stripe.courier.with(|outgoing| outgoing.endpoint.clone()) {
        Some(endpoint) => json!(endpoint),
        None => json!({"url": null, "secret": null, "old_secret": null}),
    }
}

async fn endpoint(State(stripe): State<Arc<Stripe>>) -> Response {
    wire::json(200, &endpoint_json(&stripe))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    #[serde(rename = "match")]
    text: Option<String>,
}

async fn pause(State(stripe): State<Arc<Stripe>>, body: Bytes) -> Response {
    respond(parsed::<Hold>(&body).map(|hold| {
        stripe.courier.with(|outgoing| {
            outgoing.holds.push(hold.text);
            json!({"holds": outgoing.holds.len()})
        })
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    #[serde(rename = "match")]
    text: Option<String>,
    #[serde(default)]
    send_held: bool,
}

async fn resume(State(stripe): State<Arc<Stripe>>, body: Bytes) -> Response {
    respond(parsed::<Release>(&body).map(|release| {
        let released = stripe.read(|ledger| {
            stripe.courier.with(|outgoing| {
                outgoing.holds.retain(|hold| release.text.is_some() && *hold != release.text);
                let is_held =
                    |event: &Value| outgoing.holds.iter().any(|hold| hold.as_deref().is_none_or(|text| ledger.concerns(event, text)));
                let (held, released) = outgoing.held.drain(..).partition::<Vec<_>, _>(|id| ledger.event(id).is_some_and(is_held));
                outgoing.held = held;
                released
            })
        });
        let count = released.len();
        for event in released.into_iter().filter(|_| release.send_held) {
            stripe.send(event);
        }
        json!({"released": count})
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    #[serde(default)]
    method: Method,
    presented: Option<Presented>,
}

async fn pay(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Pay| checkout::pay(ledger, &id, request.method, request.presented.as_ref()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    succeed: bool,
}

async fn settle(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Settle| checkout::settle(ledger, &id, request.succeed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    price: String,
    add_on: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

async fn subscribe(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Subscribe| {
        ledger.get("customer", &id)?;
        if request.metadata.values().any(|value| !value.is_string()) {
            return Err(Problem::invalid("metadata values are texts", None, None));
        }
        let price = subscriptions::recurring_price(ledger, &request.price, "price")?;
        let add_on = request.add_on.map(|price| subscriptions::recurring_price(ledger, &price, "add_on")).transpose()?;
        let metadata = Value::Object(request.metadata);
        let new =
            NewSubscription { customer: &id, price: &price, add_on: add_on.as_ref(), metadata: &metadata, cancel_at_period_end: false };
        let (subscription, _) = subscriptions::start(ledger, &new)?;
        ledger.get("subscription", &subscription)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credit {
    amount: i64,
}

async fn credit(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Credit| {
        let customer = ledger.get("customer", &id)?;
        customers::move_balance(ledger, &customer, -request.amount, None);
        ledger.get("customer", &id)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    #[serde(default)]
    fail: bool,
}

async fn renew(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Renew| {
        let invoice = subscriptions::renew(ledger, &id, !request.fail)?;
        let invoice = invoice.and_then(|invoice| ledger.find("invoice", &invoice).cloned());
        Ok(json!({"subscription": ledger.get("subscription", &id)?, "invoice": invoice}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    price: String,
    #[serde(default)]
    proration_behavior: Proration,
}

async fn change(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Change| {
        let before = subscriptions::living(ledger, &id)?;
        let price = subscriptions::recurring_price(ledger, &request.price, "price")?;
        subscriptions::change(ledger, &before, Some(&price), request.proration_behavior)?;
        ledger.get("subscription", &id)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    #[serde(default)]
    at_period_end: bool,
}

async fn cancel(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Cancel| {
        if request.at_period_end { subscriptions::end_with_period(ledger, &id) } else { subscriptions::end(ledger, &id) }
    })
}

async fn pause_subscription(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| subscriptions::pause(ledger, &id, true))
}

async fn resume_subscription(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| subscriptions::pause(ledger, &id, false))
}

async fn pay_invoice_outside(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| invoices::paid_outside(ledger, &id))
}

async fn void_invoice(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| invoices::give_up(ledger, &id, "void"))
}

async fn mark_uncollectible(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| invoices::give_up(ledger, &id, "uncollectible"))
}

async fn fail_refund(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| reversals::fail_refund(ledger, &id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    won: bool,
}

async fn close_dispute(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Decision| reversals::close_dispute(ledger, &id, request.won))
}

async fn pay_invoice(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, _: Empty| {
        subscriptions::collect(ledger, &id, true)?;
        ledger.get("invoice", &id)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reversal {
    amount: Option<i64>,
    reason: Option<String>,
}

/// Returns the charge that a path such as `payment_intents/pi_1` names.
fn charge(ledger: &Ledger, kind: &str, id: &str) -> Result<Value, Problem> {
    match kind {
        "payment_intents" => ledger.get("payment_intent", id).and_then(|_| reversals::charge_of(ledger, id, "payment_intent")),
        "charges" => ledger.get("charge", id).and_then(|_| reversals::charge_of(ledger, id, "charge")),
        _ => Err(Problem { status: 404, ..Problem::invalid("no such control", None, None) }),
    }
}

async fn refund(State(stripe): State<Arc<Stripe>>, Path((kind, id)): Path<(String, String)>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: Reversal| {
        let charge = charge(ledger, &kind, &id)?;
        reversals::refund(ledger, &charge, request.amount, request.reason.as_deref(), &json!({}))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDispute {
    amount: Option<i64>,
    reason: Option<String>,
    #[serde(default)]
    case_type: CaseType,
}

async fn dispute(State(stripe): State<Arc<Stripe>>, Path((kind, id)): Path<(String, String)>, body: Bytes) -> Response {
    perform(&stripe, &body, |ledger, request: NewDispute| {
        let charge = charge(ledger, &kind, &id)?;
        reversals::dispute(ledger, &charge, request.amount, request.reason.as_deref(), request.case_type)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFilter {
    r#type: Option<String>,
    object: Option<String>,
    #[serde(rename = "match")]
    text: Option<String>,
}

async fn events(State(stripe): State<Arc<Stripe>>, Query(request): Query<EventFilter>) -> Response {
    let found: Vec<Value> = stripe.read(|ledger| {
        let fits = |event: &&Value| {
            request.r#type.as_deref().is_none_or(|kind| text(event, "type") == kind)
                && request.object.as_deref().is_none_or(|id| text(&event["data"]["object"], "id") == id)
                && request.text.as_deref().is_none_or(|text| ledger.concerns(event, text))
        };
        ledger.events().iter().filter(fits).cloned().collect()
    });
    wire::json(200, &Value::Array(found))
}

async fn deliver(State(stripe): State<Arc<Stripe>>, Path(id): Path<String>, body: Bytes) -> Response {
    let request = match parsed::<DeliveryRequest>(&body) {
        Ok(request) => request,
        Err(problem) => return reject(400, problem.message),
    };
    let Some(event) = stripe.read(|ledger| ledger.event(&id).cloned()) else { return reject(404, "no such event") };
    match deliver_now(&stripe, &event, &request).await {
        Ok(statuses) => wire::json(200, &json!({"statuses": statuses})),
        Err(why) => reject(409, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryFilter {
    event: Option<String>,
}

async fn deliveries(State(stripe): State<Arc<Stripe>>, Query(request): Query<DeliveryFilter>) -> Response {
    let attempts = stripe.courier.with(|outgoing| outgoing.attempts.clone());
    let of_event = |attempt: &delivery::Attempt| request.event.as_ref().is_none_or(|event| *event == attempt.event);
    wire::json(200, &json!(attempts.into_iter().filter(of_event).collect::<Vec<_>>()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    body: String,
    secret: Option<String>,
    timestamp: Option<i64>,
}

async fn sign(body: Bytes) -> Response {
    respond(parsed::<Sign>(&body).map(|request| {
        let timestamp = request.timestamp.unwrap_or_else(now);
        let signature = delivery::signature(request.secret.as_deref().unwrap_or(DEFAULT_SECRET), timestamp, &request.body);
        json!({"header": delivery::header(timestamp, &[signature])})
    }))
}
