//! What steers the pretended account: people pay, time passes, banks take money back, events come again.
//!
//! All below `/_control/stripe`; bodies and answers are JSON, errors `{"error": text}`.
//!
//! | order | body | what it does |
//! |---|---|---|
//! | `POST /endpoint` | `url`, `secret`?, `old_secret`? | sets where events go; a null `url` removes it; `old_secret` signs too. `GET` tells it |
//! | `POST /pause` | `match`? | holds all events, or those that contain the text or are about that customer |
//! | `POST /resume` | `match`?, `send_held`? | takes a hold back (all without `match`); what was held is sent, or left alone |
//! | `POST /sessions/{id}/pay` | `method`?: `card`, `delayed`, `fail` | someone pays |
//! | `POST /sessions/{id}/settle` | `succeed` | the delayed money comes, or does not |
//! | `POST /customers/{id}/subscribe` | `price`, `metadata`? | a subscription with its first invoice paid |
//! | `POST /subscriptions/{id}/renew` | `fail`? | the next period: billed, past due, or the end if that was wished |
//! | `POST /subscriptions/{id}/change` | `price`, `proration_behavior`? | another plan |
//! | `POST /subscriptions/{id}/cancel` | `at_period_end`? | the end, now or with the period |
//! | `POST /invoices/{id}/pay` | | a failed invoice is paid after all |
//! | `POST /{payment_intents,charges}/{id}/refund` | `amount`?, `reason`? | money back |
//! | `POST /{payment_intents,charges}/{id}/dispute` | `amount`?, `reason`? | a chargeback |
//! | `GET /events` | `type`?, `object`?, `match`? in the query | all events made, in order |
//! | `POST /events/{id}/deliver` | `times`?, `concurrent`?, `secret`?, `timestamp`?, `extra_v1`?, `url`? | sends one now, held or not; answers the statuses |
//! | `GET /deliveries` | `event`? in the query | the automatic tries |
//! | `POST /sign` | `body`, `secret`?, `timestamp`? | the header for a body of one's own |

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::checkout::Method;
use super::delivery::{self, ByHand, Endpoint, USUAL_SECRET};
use super::ledger::{Cause, Ledger, now, text};
use super::problem::Problem;
use super::subscriptions::{Order, Proration};
use super::{checkout, reversals, subscriptions};
use crate::app::App;
use crate::wire;

/// The routes below `/_control/stripe`.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/endpoint", post(set_endpoint).get(endpoint))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/sessions/{id}/pay", post(pay))
        .route("/sessions/{id}/settle", post(settle))
        .route("/customers/{id}/subscribe", post(subscribe))
        .route("/subscriptions/{id}/renew", post(renew))
        .route("/subscriptions/{id}/change", post(change))
        .route("/subscriptions/{id}/cancel", post(cancel))
        .route("/invoices/{id}/pay", post(pay_invoice))
        .route("/{kind}/{id}/refund", post(refund))
        .route("/{kind}/{id}/dispute", post(dispute))
        .route("/events", get(events))
        .route("/events/{id}/deliver", post(deliver))
        .route("/deliveries", get(deliveries))
        .route("/sign", post(sign))
}

fn refused(status: u16, why: impl Into<String>) -> Response {
    wire::json(status, &json!({"error": why.into()}))
}

/// Reads an order; no body is an empty one.
fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string(), None, None))
}

fn told(result: Result<Value, Problem>) -> Response {
    match result {
        Ok(value) => wire::json(200, &value),
        Err(problem) => refused(problem.status, problem.message),
    }
}

/// Reads an order and carries it out.
fn order<T: DeserializeOwned>(app: &App, body: &Bytes, work: impl FnOnce(&mut Ledger, T) -> Result<Value, Problem>) -> Response {
    told(parsed::<T>(body).and_then(|order| app.stripe.act(Cause::default(), |ledger| work(ledger, order))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEndpoint {
    url: Option<String>,
    secret: Option<String>,
    old_secret: Option<String>,
}

async fn set_endpoint(State(app): State<Arc<App>>, body: Bytes) -> Response {
    told(parsed::<NewEndpoint>(&body).and_then(|new| {
        let secret = new.secret.unwrap_or_else(|| USUAL_SECRET.to_owned());
        if new.url.as_ref().is_some_and(|url| reqwest::Url::parse(url).is_err()) {
            return Err(Problem::invalid("url is no URL", None, None));
        }
        let endpoint = new.url.map(|url| Endpoint { url, secret, old_secret: new.old_secret });
        app.stripe.courier.with(|desk| desk.endpoint = endpoint);
        Ok(shown_endpoint(&app))
    }))
}

fn shown_endpoint(app: &App) -> Value {
    match app.stripe.courier.with(|desk| desk.endpoint.clone()) {
        Some(endpoint) => json!(endpoint),
        None => json!({"url": null, "secret": null, "old_secret": null}),
    }
}

async fn endpoint(State(app): State<Arc<App>>) -> Response {
    wire::json(200, &shown_endpoint(&app))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    #[serde(rename = "match")]
    wanted: Option<String>,
}

async fn pause(State(app): State<Arc<App>>, body: Bytes) -> Response {
    told(parsed::<Hold>(&body).map(|hold| {
        app.stripe.courier.with(|desk| {
            desk.holds.push(hold.wanted);
            json!({"holds": desk.holds.len()})
        })
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    #[serde(rename = "match")]
    wanted: Option<String>,
    #[serde(default)]
    send_held: bool,
}

async fn resume(State(app): State<Arc<App>>, body: Bytes) -> Response {
    told(parsed::<Release>(&body).map(|release| {
        let released = app.stripe.read(|ledger| {
            app.stripe.courier.with(|desk| {
                desk.holds.retain(|hold| release.wanted.is_some() && *hold != release.wanted);
                let is_held =
                    |event: &Value| desk.holds.iter().any(|hold| hold.as_deref().is_none_or(|wanted| ledger.concerns(event, wanted)));
                let (held, released) = desk.held.drain(..).partition::<Vec<_>, _>(|id| ledger.event(id).is_some_and(is_held));
                desk.held = held;
                released
            })
        });
        let count = released.len();
        for event in released.into_iter().filter(|_| release.send_held) {
            app.stripe.send(event);
        }
        json!({"released": count})
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pay {
    #[serde(default)]
    method: Method,
}

async fn pay(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Pay| checkout::pay(ledger, &id, wanted.method))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settle {
    succeed: bool,
}

async fn settle(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Settle| checkout::settle(ledger, &id, wanted.succeed))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    price: String,
    #[serde(default)]
    metadata: Map<String, Value>,
}

async fn subscribe(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Subscribe| {
        ledger.get("customer", &id)?;
        if wanted.metadata.values().any(|value| !value.is_string()) {
            return Err(Problem::invalid("metadata is texts", None, None));
        }
        let price = subscriptions::recurring_price(ledger, &wanted.price, "price")?;
        let metadata = Value::Object(wanted.metadata);
        let order = Order { customer: &id, price: &price, metadata: &metadata, cancel_at_period_end: false };
        let (subscription, _) = subscriptions::start(ledger, &order)?;
        ledger.get("subscription", &subscription)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    #[serde(default)]
    fail: bool,
}

async fn renew(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Renew| {
        let invoice = subscriptions::renew(ledger, &id, !wanted.fail)?;
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

async fn change(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Change| {
        let before = subscriptions::living(ledger, &id)?;
        let price = subscriptions::recurring_price(ledger, &wanted.price, "price")?;
        subscriptions::change(ledger, &before, Some(&price), wanted.proration_behavior)?;
        ledger.get("subscription", &id)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    #[serde(default)]
    at_period_end: bool,
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(
        &app,
        &body,
        |ledger, wanted: Cancel| {
            if wanted.at_period_end { subscriptions::end_with_period(ledger, &id) } else { subscriptions::end(ledger, &id) }
        },
    )
}

async fn pay_invoice(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    order(&app, &body, |ledger, _: Nothing| {
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

/// The charge that a path such as `payment_intents/pi_1` means.
fn charge(ledger: &Ledger, kind: &str, id: &str) -> Result<Value, Problem> {
    match kind {
        "payment_intents" => ledger.get("payment_intent", id).and_then(|_| reversals::charge_of(ledger, id, "payment_intent")),
        "charges" => ledger.get("charge", id).and_then(|_| reversals::charge_of(ledger, id, "charge")),
        _ => Err(Problem { status: 404, ..Problem::invalid("there is no such control", None, None) }),
    }
}

async fn refund(State(app): State<Arc<App>>, Path((kind, id)): Path<(String, String)>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Reversal| {
        let charge = charge(ledger, &kind, &id)?;
        reversals::refund(ledger, &charge, wanted.amount, wanted.reason.as_deref(), &json!({}))
    })
}

async fn dispute(State(app): State<Arc<App>>, Path((kind, id)): Path<(String, String)>, body: Bytes) -> Response {
    order(&app, &body, |ledger, wanted: Reversal| {
        let charge = charge(ledger, &kind, &id)?;
        reversals::dispute(ledger, &charge, wanted.amount, wanted.reason.as_deref())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    r#type: Option<String>,
    object: Option<String>,
    #[serde(rename = "match")]
    text: Option<String>,
}

async fn events(State(app): State<Arc<App>>, Query(wanted): Query<Wanted>) -> Response {
    let found: Vec<Value> = app.stripe.read(|ledger| {
        let fits = |event: &&Value| {
            wanted.r#type.as_deref().is_none_or(|kind| text(event, "type") == kind)
                && wanted.object.as_deref().is_none_or(|id| text(&event["data"]["object"], "id") == id)
                && wanted.text.as_deref().is_none_or(|text| ledger.concerns(event, text))
        };
        ledger.events().iter().filter(fits).cloned().collect()
    });
    wire::json(200, &Value::Array(found))
}

async fn deliver(State(app): State<Arc<App>>, Path(id): Path<String>, body: Bytes) -> Response {
    let order = match parsed::<ByHand>(&body) {
        Ok(order) => order,
        Err(problem) => return refused(400, problem.message),
    };
    let Some(event) = app.stripe.read(|ledger| ledger.event(&id).cloned()) else { return refused(404, "there is no such event") };
    match delivery::deliver_by_hand(&app.stripe, &event, &order).await {
        Ok(statuses) => wire::json(200, &json!({"statuses": statuses})),
        Err(why) => refused(409, why),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfEvent {
    event: Option<String>,
}

async fn deliveries(State(app): State<Arc<App>>, Query(wanted): Query<OfEvent>) -> Response {
    let attempts = app.stripe.courier.with(|desk| desk.attempts.clone());
    let of_event = |attempt: &delivery::Sending| wanted.event.as_ref().is_none_or(|event| *event == attempt.event);
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
    told(parsed::<Sign>(&body).map(|order| {
        let timestamp = order.timestamp.unwrap_or_else(now);
        let signature = delivery::signature(order.secret.as_deref().unwrap_or(USUAL_SECRET), timestamp, &order.body);
        json!({"header": delivery::header(timestamp, &[signature])})
    }))
}
