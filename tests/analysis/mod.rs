//! Single analyses, from request to ledger.

mod auth;
mod cancel;
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

use crate::harness::Case;

pub fn cases() -> Vec<Case> {
    [
        happy::cases(),
        keys::cases(),
        start::cases(),
        auth::cases(),
        progress::cases(),
        results::cases(),
        prompts::cases(),
        refunds::cases(),
        cancel::cases(),
        repeats::cases(),
        interruptions::cases(),
    ]
    .concat()
}
