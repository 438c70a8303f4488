//! Money: purchases, Stripe's events from the webhook into the books, and what the books do with them in whatever order they come.

mod attacks;
mod chargebacks;
mod consumer;
mod orders;
mod plans;
mod purchase;
mod purchase_keys;
mod webhook;

use crate::harness::Case;

pub fn cases() -> Vec<Case> {
    [
        purchase::cases(),
        purchase_keys::cases(),
        webhook::cases(),
        consumer::cases(),
        orders::cases(),
        plans::cases(),
        chargebacks::cases(),
        attacks::cases(),
    ]
    .concat()
}
