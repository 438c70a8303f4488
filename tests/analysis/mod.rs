//! Single analyses, from request to ledger.

mod allowance;
mod auth;
mod cancel;
mod costs;
mod happy;
mod interruptions;
mod keys;
mod progress;
mod prompts;
mod refunds;
mod repeats;
mod results;
mod start;

pub use repeats::picture;
