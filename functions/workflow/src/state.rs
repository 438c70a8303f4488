//! The inputs and outputs of the states. They are small, and never hold a profile or an answer.

use oslira_aws::profiles::ProfileRef;
use oslira_domain::{Run, StepTiming};
use serde::{Deserialize, Serialize};

/// The timings of the steps that a state ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StepsEnded {
    /// The steps, in their order.
    pub steps: Vec<StepTiming>,
}

/// The input of `Fetch`.
#[derive(Debug, Deserialize)]
pub struct FetchInput {
    /// The run.
    pub run: Run,
    /// How often the state was retried.
    #[serde(default)]
    pub retry_count: u32,
}

/// The profile of a run: the output of `Fetch`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProfileState {
    /// Whether it came from the cache.
    pub hit: bool,
    /// The cache entry that holds it.
    pub at: ProfileRef,
    /// Steps 6 to 8.
    pub steps: Vec<StepTiming>,
}

/// The input of `Analyze`.
#[derive(Debug, Deserialize)]
pub struct AnalyzeInput {
    /// The run.
    pub run: Run,
    /// Its profile.
    pub profile: ProfileState,
}

/// The input of `Save`.
#[derive(Debug, Deserialize)]
pub struct SaveInput {
    /// The run.
    pub run: Run,
    /// Steps 1 to 5.
    pub admission: StepsEnded,
    /// The profile, and steps 6 to 8.
    pub profile: ProfileState,
    /// Step 9.
    pub analysis: StepsEnded,
}
