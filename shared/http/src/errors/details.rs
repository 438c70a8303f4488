//! The `details` of the errors that have them.

use oslira_domain::{FailureCode, LeadId, RunId, RunStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// The credits that are available and those that are required.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shortfall {
    /// The account's balance.
    pub available: i32,
    /// What the analysis costs.
    pub required: i32,
}

/// The run that already analyzes the handle.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Running")]
pub struct LiveRun {
    /// The run's id.
    pub run_id: RunId,
    /// Where its progress is.
    pub progress_url: String,
}

/// Why a run has no result.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Failed")]
pub struct FailedRun {
    /// The run's id.
    pub run_id: RunId,
    /// The code in the run's progress.
    pub code: FailureCode,
    /// Details of the failure, such as the missing credits.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub details: Option<Value>,
    /// What its charge was, if it had been charged.
    pub credits_refunded: i32,
}

/// What a cancellation refunded.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Cancelled")]
pub struct CancelledRun {
    /// The run's id.
    pub run_id: RunId,
    /// What its charge was, if it had been charged.
    pub credits_refunded: i32,
}

/// The state of a run that has not ended.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NotComplete")]
pub struct IncompleteRun {
    /// The run's id.
    pub run_id: RunId,
    /// `pending` or `processing`.
    pub status: RunStatus,
    /// Where its progress is.
    pub progress_url: String,
}

/// The lead that now has the handle.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LiveLead {
    /// The lead's id.
    pub lead_id: Option<LeadId>,
}

/// The plan and its limit of business profiles.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanLimit {
    /// The account's plan.
    pub plan: Option<String>,
    /// How many business profiles the plan allows.
    pub limit: Option<i64>,
}
