//! Stripe: customers and Checkout Sessions are made here; what came of them arrives as signed events.
//!
//! Facts from stripe-python 16.1.0, which speaks the same API version.

mod client;
mod events;
mod signature;

pub use client::{CheckoutSession, CreditPurchase, Stripe};
pub use events::{Effect, Event, InvalidEvent, Reading, Reversal};
pub use signature::{SignatureError, verify};

/// The version of the API that requests ask for and events are laid out in. The webhook endpoint at Stripe must be of the same.
pub const API_VERSION: &str = "2026-10-28.endive";
