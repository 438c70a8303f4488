//! Billing: purchases, and Stripe's events from the webhook to the ledger, in any order.

mod attacks;
mod chargebacks;
mod consumer;
mod disputes;
mod foreign;
mod orders;
mod plans;
mod purchase;
mod purchase_keys;
mod settled;
mod shortfalls;
mod undone;
mod webhook;
