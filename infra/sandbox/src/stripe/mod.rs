//! Stripe: customers, prices, Checkout, subscriptions, invoices, refunds, disputes, and signed events of all that happens.
//!
//! Everyone here has a card that works unless a control says otherwise.

mod api;
mod catalog;
mod checkout;
mod controls;
mod customers;
mod delivery;
mod form;
mod idempotency;
mod invoices;
mod ledger;
mod lists;
mod page;
mod payments;
mod problem;
mod reversals;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::routing::{any, get};
use serde_json::Value;

use crate::app::App;
pub(crate) use api::OPERATIONS;
pub(crate) use controls::routes as controls;
use delivery::Courier;
use ledger::{Cause, Ledger};
use problem::Problem;

/// The only API version that is spoken here, that of our code.
const API_VERSION: &str = "2026-10-28.endive";

/// The routes below `/stripe`.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/pay/{session}", get(page::show).post(page::pay)).route("/v1/{*path}", any(api::handle)).fallback(api::handle)
}

/// The pretended account with its keys and its webhook endpoint.
#[derive(Debug)]
pub(crate) struct Stripe {
    ledger: Mutex<Ledger>,
    keys: idempotency::Keys,
    courier: Courier,
    /// For the tasks that deliver.
    itself: std::sync::Weak<Self>,
}

impl Stripe {
    /// An account whose pages are below this address.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub(crate) fn new(site: String) -> anyhow::Result<Arc<Self>> {
        let courier = Courier::new()?;
        Ok(Arc::new_cyclic(|itself| Self {
            ledger: Mutex::new(Ledger::new(site)),
            keys: idempotency::Keys::default(),
            courier,
            itself: itself.clone(),
        }))
    }

    fn read<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the account and sends or holds the events that come of it.
    fn act(&self, cause: Cause, work: impl FnOnce(&mut Ledger) -> Result<Value, Problem>) -> Result<Value, Problem> {
        self.read(|ledger| {
            let before = ledger.events().len();
            ledger.cause = cause;
            let result = work(ledger);
            let new: Vec<Value> = ledger.events().iter().skip(before).cloned().collect();
            for event in &new {
                self.send_or_hold(ledger, event);
            }
            result
        })
    }

    fn send_or_hold(&self, ledger: &mut Ledger, event: &Value) {
        let id = ledger::text(event, "id").to_owned();
        let send = self.courier.with(|desk| {
            let held = desk.holds.iter().any(|hold| hold.as_deref().is_none_or(|wanted| ledger.concerns(event, wanted)));
            if desk.endpoint.is_some() {
                ledger.set_pending(&id, 1);
            }
            if held {
                desk.held.push(id.clone());
            }
            desk.endpoint.is_some() && !held
        });
        if send {
            self.send(id);
        }
    }

    /// Starts to deliver an event.
    fn send(&self, event: String) {
        if let Some(itself) = self.itself.upgrade() {
            tokio::spawn(delivery::deliver(itself, event));
        }
    }
}
