//! The Stripe account: its ledger of objects, its idempotency keys and the delivery of its events.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use super::catalog;
use super::delivery::{Attempt, Courier, DEFAULT_SECRET, DeliveryRequest, PAUSES, body, header, signature};
use super::idempotency::Keys;
use super::ledger::{self, Cause, Ledger};
use super::problem::Problem;
use crate::shared::Shared;

/// The state of Stripe: one account with its idempotency keys and its webhook endpoint.
#[derive(Debug)]
pub(crate) struct Stripe {
    pub(super) shared: Arc<Shared>,
    ledger: Mutex<Ledger>,
    pub(super) keys: Keys,
    pub(super) courier: Courier,
    /// A reference for the tasks that deliver events.
    itself: std::sync::Weak<Self>,
}

impl Stripe {
    /// Creates an account with the three plans, whose pages are below `site`.
    ///
    /// # Errors
    /// Fails when no HTTP client can be created.
    pub(crate) fn new(shared: Arc<Shared>, site: String) -> anyhow::Result<Arc<Self>> {
        let courier = Courier::new()?;
        let mut ledger = Ledger::new(site);
        catalog::add_plans(&mut ledger);
        Ok(Arc::new_cyclic(|itself| Self { shared, ledger: Mutex::new(ledger), keys: Keys::default(), courier, itself: itself.clone() }))
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Ledger) -> T) -> T {
        read(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the account and sends or holds the resulting events.
    pub(super) fn act(&self, cause: Cause, change: impl FnOnce(&mut Ledger) -> Result<Value, Problem>) -> Result<Value, Problem> {
        self.read(|ledger| {
            let before = ledger.events().len();
            ledger.cause = cause;
            let result = change(ledger);
            let new: Vec<Value> = ledger.events().iter().skip(before).cloned().collect();
            for event in &new {
                self.send_or_hold(ledger, event);
            }
            result
        })
    }

    fn send_or_hold(&self, ledger: &mut Ledger, event: &Value) {
        let id = ledger::text(event, "id").to_owned();
        let send = self.courier.with(|outgoing| {
            let held = outgoing.holds.iter().any(|hold| hold.as_deref().is_none_or(|text| ledger.concerns(event, text)));
            if outgoing.endpoint.is_some() {
                ledger.set_pending(&id, 1);
            }
            if held {
                outgoing.held.push(id.clone());
            }
            outgoing.endpoint.is_some() && !held
        });
        if send {
            self.send(id);
        }
    }

    /// Starts the delivery of an event.
    pub(super) fn send(&self, event: String) {
        if let Some(itself) = self.itself.upgrade() {
            tokio::spawn(deliver(itself, event));
        }
    }
}

/// Sends an event until the endpoint accepts it or the attempts are used up. Once accepted, the event is no longer pending.
async fn deliver(stripe: Arc<Stripe>, id: String) {
    for attempt in 1..=PAUSES.len() + 1 {
        let endpoint = stripe.courier.with(|outgoing| outgoing.endpoint.clone());
        let event = stripe.read(|ledger| ledger.event(&id).cloned());
        let (Some(endpoint), Some(event)) = (endpoint, event) else { return };
        let (body, now) = (body(&event), Timestamp::now());
        let secrets = std::iter::once(&endpoint.secret).chain(&endpoint.old_secret);
        let signatures: Vec<String> = secrets.map(|secret| signature(secret, now.as_second(), &body)).collect();
        let sent = stripe.courier.send(&endpoint.url, &header(now.as_second(), &signatures), body).await;
        let accepted = sent.as_ref().is_ok_and(|status| (200..300).contains(status));
        if accepted {
            stripe.read(|ledger| ledger.set_pending(&id, 0));
        }
        let entry = Attempt {
            event: id.clone(),
            number: attempt,
            status: sent.as_ref().ok().copied(),
            error: sent.err(),
            at_ms: now.as_millisecond(),
        };
        stripe.courier.with(|outgoing| outgoing.attempts.push(entry));
        match PAUSES.get(attempt - 1) {
            Some(pause) if !accepted => tokio::time::sleep(*pause).await,
            _ => return,
        }
    }
}

/// Sends an event as often as the request says and returns the statuses, `None` for each delivery without a response.
///
/// # Errors
/// Fails when neither the account nor the request has an endpoint.
pub(super) async fn deliver_now(stripe: &Stripe, event: &Value, request: &DeliveryRequest) -> Result<Vec<Option<u16>>, String> {
    let endpoint = stripe.courier.with(|outgoing| outgoing.endpoint.clone());
    let url = request.url.clone().or_else(|| endpoint.as_ref().map(|endpoint| endpoint.url.clone()));
    let url = url.ok_or("neither the account nor the request has a url")?;
    let secret = request.secret.clone().or_else(|| endpoint.map(|endpoint| endpoint.secret)).unwrap_or_else(|| DEFAULT_SECRET.to_owned());
    let body = body(event);
    let once = || async {
        let timestamp = request.timestamp.unwrap_or_else(ledger::now);
        let mut signatures = request.extra_v1.clone();
        signatures.push(signature(&secret, timestamp, &body));
        stripe.courier.send(&url, &header(timestamp, &signatures), body.clone()).await.ok()
    };
    let times = request.times.unwrap_or(1);
    if request.concurrent {
        return Ok(futures::future::join_all((0..times).map(|_| once())).await);
    }
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(once().await);
    }
    Ok(statuses)
}
