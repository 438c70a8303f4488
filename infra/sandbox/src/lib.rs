//! Stand-ins for the third parties of the product: Apify, OpenAI, Anthropic, Stripe, Supabase Auth and Sentry.
//!
//! They implement the vendors' wire formats closely enough for the vendors' own SDKs, which `sdk_check/` runs. Their data is invented but
//! plausible. Tests can inject faults and delays, read the log of all calls, and read the bill, which a separate price table determines.
//!
//! | path | replaces |
//! |---|---|
//! | `/apify` | `https://api.apify.com` |
//! | `/openai/v1` | `https://api.openai.com/v1` |
//! | `/anthropic` | `https://api.anthropic.com` |
//! | `/stripe` | `https://api.stripe.com`, and its webhooks to the configured endpoint |
//! | `/sentry/<project>` | the ingestion address of a Sentry project with the public key `sandbox` |
//! | `/supabase` | `https://<project>.supabase.co` |
//! | `/_control` | no vendor: tokens, faults, delays, calls and the bill; `/_control/stripe` simulates customers and banks |

// Stripe's objects have more fields than `json!` accepts by default.
#![recursion_limit = "256"]

mod anthropic;
mod apify;
mod app;
mod bill;
mod calls;
mod control;
mod faults;
mod models;
mod openai;
mod profiles;
mod seed;
mod sentry;
mod server;
#[cfg(test)]
mod server_tests;
mod shared;
mod stripe;
mod supabase;
pub mod tokens;
mod wire;

pub use server::{Options, Sandbox, serve};
pub use shared::Credentials;
