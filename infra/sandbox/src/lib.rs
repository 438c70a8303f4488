//! Stand-ins for the third parties of the product: Apify, OpenAI, Anthropic, Stripe, Supabase Auth and Sentry.
//!
//! They speak the vendors' wire formats well enough for the vendors' own SDKs (`sdk_check/` runs those), with invented but
//! believable data, delays and failures on demand, a log of all calls, and a bill from a price table of their own.
//!
//! | below | stands for |
//! |---|---|
//! | `/apify` | `https://api.apify.com` |
//! | `/openai/v1` | `https://api.openai.com/v1` |
//! | `/anthropic` | `https://api.anthropic.com` |
//! | `/stripe` | `https://api.stripe.com`, and its webhooks to the endpoint that is set |
//! | `/sentry/<project>` | the address of a project at Sentry, with the public key `sandbox` |
//! | `/supabase` | `https://<project>.supabase.co` |
//! | `/_control` | nothing: tokens, faults, delays, calls, bill; below `/_control/stripe` what people and banks do |

// Stripe's objects have more fields than `json!` takes by default.
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
mod stripe;
mod supabase;
pub mod tokens;
mod wire;

pub use app::Credentials;
pub use server::{Options, Sandbox, serve};
