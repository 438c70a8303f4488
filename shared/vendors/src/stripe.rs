//! Stripe: creates customers and Checkout Sessions, and reads the signed events that report what came of them.
//!
//! Facts from stripe-python 16.1.0, which uses the same API version.

mod client;
mod events;
mod signature;

pub use client::{CheckoutSession, CreditPurchase, Stripe, StripeSecret};
pub use events::{BilledItem, Change, DisputeState, Effect, Event, InvalidEvent, InvoiceStatus, Reading, Reversal};
pub use signature::{SignatureError, SignatureVerifier, StripeWebhookSecret};

/// The currency of all prices.
const CURRENCY: &str = "usd";

/// The version of the API for requests and events. The webhook endpoint at Stripe must use the same version.
pub const API_VERSION: &str = "2026-10-28.endive";
