//! Single analyses, from request to ledger.

mod auth;
mod happy;
mod progress;
mod prompts;
mod results;
mod start;

use crate::harness::Case;

pub fn cases() -> Vec<Case> {
    [happy::cases(), start::cases(), auth::cases(), progress::cases(), results::cases(), prompts::cases()].concat()
}
