//! What a model is told, in the order that lets providers cache it: first what never changes (instructions), then what
//! changes with the business, last the profile.

use jiff::Timestamp;
use oslira_domain::{BusinessContext, Call, Metrics, Profile, Tier};

/// The three parts of a prompt, stable first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Role, rules and the task: the same for every run of a tier's call.
    pub instructions: String,
    /// The business: the same for every lead of it.
    pub business: String,
    /// The profile, fenced: data from a stranger.
    pub profile: String,
}

/// The prompt of a call.
pub fn prompt(call: Call, tier: Tier, business: &BusinessContext, profile: &Profile, metrics: &Metrics, now: Timestamp) -> Prompt {
    let _ = (call, tier, business, profile, metrics, now);
    Prompt { instructions: String::new(), business: String::new(), profile: String::new() }
}
