//! Stripe: customers, prices, Checkout, subscriptions, invoices, refunds, disputes, and signed events of every change.
//!
//! Every card is accepted unless a control says otherwise.

mod account;
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

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};

pub(crate) use account::Stripe;
pub(crate) use api::OPERATIONS;
pub(crate) use controls::routes as controls;

/// Returns the routes below `/stripe`.
pub(crate) fn routes(stripe: Arc<Stripe>) -> Router {
    Router::new()
        .route("/pay/{session}", get(page::show).post(page::pay))
        .route("/v1/{*path}", any(api::handle))
        .fallback(api::handle)
        .with_state(stripe)
}
