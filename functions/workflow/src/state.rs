//! What travels through the state machine: small, and never the profile or an answer itself.

use oslira_aws::profiles::ProfileRef;
use oslira_domain::{Call, Run, StepTiming};
use serde::{Deserialize, Serialize};

/// The input of the execution, and of `Admit`.
#[derive(Debug, Deserialize)]
pub struct AdmitInput {
    /// The run.
    pub run: Run,
    /// Step 1.
    #[serde(default)]
    pub steps: Vec<StepTiming>,
}

/// What `Admit` adds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Admitted {
    /// The AI calls to make.
    pub calls: Vec<Call>,
    /// Steps 1 to 5.
    pub steps: Vec<StepTiming>,
}

/// The profile of a run: what `CheckCache` adds, and `Scrape` replaces.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProfileState {
    /// Whether it came from the cache.
    pub hit: bool,
    /// Where it lies. Absent until it is scraped.
    #[serde(default)]
    pub at: Option<ProfileRef>,
    /// Steps 6 to 8.
    pub steps: Vec<StepTiming>,
}

/// The input of a task that needs only the run.
#[derive(Debug, Deserialize)]
pub struct RunInput {
    /// The run.
    pub run: Run,
}

/// The input of `Scrape`.
#[derive(Debug, Deserialize)]
pub struct ScrapeInput {
    /// The run.
    pub run: Run,
    /// What `CheckCache` found.
    pub profile: ProfileState,
}

/// The input of one question.
#[derive(Debug, Deserialize)]
pub struct AnalyzeInput {
    /// The run.
    pub run: Run,
    /// Its profile.
    pub profile: ProfileState,
    /// The question.
    pub call: Call,
}

/// One answered question.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The question.
    pub call: Call,
    /// When it was asked, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// When it was answered.
    pub ended_at_ms: i64,
}

/// The input of `Save`.
#[derive(Debug, Deserialize)]
pub struct SaveInput {
    /// The run.
    pub run: Run,
    /// Steps 1 to 5.
    pub admission: Admitted,
    /// Steps 6 to 8.
    pub profile: ProfileState,
    /// Step 9.
    pub calls: Vec<Answered>,
}
