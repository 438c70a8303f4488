//! A run: one analysis from its start to its end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::{AccountId, BusinessProfileId, RunId, Step, StepTiming, Tier, UserId, Username};

/// The status of a run. A terminal status never changes; the database enforces the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum RunStatus {
    /// Accepted, not charged yet.
    Pending,
    /// Charged and in progress.
    Processing,
    /// Ended with a result. The charge stands.
    Completed,
    /// Ended without a result. A charge was refunded.
    Failed,
    /// Cancelled by a user. A charge was refunded.
    Cancelled,
}

impl RunStatus {
    /// Whether the run has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Returns the value in the API and the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Identifies a run and what it analyzes: part of the input of its execution and of every task in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub run_id: RunId,
    /// The account that pays.
    pub account_id: AccountId,
    /// The business profile that the lead is judged for.
    pub business_profile_id: BusinessProfileId,
    /// The user who requested it.
    pub requested_by: UserId,
    /// The handle to analyze.
    pub username: Username,
    /// The tier.
    pub tier: Tier,
    /// When it was requested, in milliseconds since 1970 UTC.
    pub requested_at_ms: i64,
}

/// The input of a run's execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionInput {
    /// The run.
    pub run: Run,
    /// The steps that ended before the execution started.
    #[serde(default)]
    pub steps: Vec<StepTiming>,
}

impl ExecutionInput {
    /// Returns the input of an accepted run. Step 1 took `duration_us` microseconds.
    pub fn accepted(run: Run, duration_us: i64) -> Self {
        let step = StepTiming { step: Step::GenerateRunId, started_at_ms: run.requested_at_ms, duration_us };
        Self { run, steps: vec![step] }
    }
}

/// Why a run ended without a result. If such a run was charged, the charge is refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// Another run of the same handle was in progress.
    DuplicateAnalysis,
    /// The balance did not cover it.
    InsufficientCredits,
    /// A payment of the account was disputed.
    SpendingSuspended,
    /// The business profile does not exist, or belongs to another account.
    BusinessProfileNotFound,
    /// Instagram has no such profile.
    ProfileNotFound,
    /// The profile is private.
    ProfilePrivate,
    /// Instagram shows the profile only to users of some age or in some countries.
    ProfileRestricted,
    /// The profile could not be fetched, even after retries.
    ScrapeFailed,
    /// No model of any provider answered, even after retries.
    AiFailed,
    /// The model declined to judge the profile.
    AiRefused,
    /// The model's answer did not fit its schema, twice.
    AiInvalidOutput,
    /// The run exceeded its time limit.
    TimedOut,
    /// The execution was stopped from outside.
    Aborted,
    /// An internal error.
    InternalError,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 14] = [
        Self::DuplicateAnalysis,
        Self::InsufficientCredits,
        Self::SpendingSuspended,
        Self::BusinessProfileNotFound,
        Self::ProfileNotFound,
        Self::ProfilePrivate,
        Self::ProfileRestricted,
        Self::ScrapeFailed,
        Self::AiFailed,
        Self::AiRefused,
        Self::AiInvalidOutput,
        Self::TimedOut,
        Self::Aborted,
        Self::InternalError,
    ];

    /// Returns the code in the API and the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the message for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::DuplicateAnalysis => "This profile is already being analyzed.",
            Self::InsufficientCredits => "The account does not have enough credits.",
            Self::SpendingSuspended => "A payment of the account is disputed. Credits cannot be spent until the dispute is decided.",
            Self::BusinessProfileNotFound => "The business profile does not exist.",
            Self::ProfileNotFound => "Instagram has no such profile. You were not charged.",
            Self::ProfilePrivate => "The profile is private and cannot be analyzed. You were not charged.",
            Self::ProfileRestricted => {
                "Instagram shows the profile only to some of its users, so it cannot be analyzed. You were not charged."
            }
            Self::ScrapeFailed => "The profile could not be fetched. You were not charged; please try again.",
            Self::AiFailed => "The analysis did not succeed. You were not charged; please try again.",
            Self::AiRefused => "The model declined to judge this profile. You were not charged.",
            Self::AiInvalidOutput => "The model returned no usable answer. You were not charged; please try again.",
            Self::TimedOut => "The analysis took too long. You were not charged; please try again.",
            Self::Aborted => "The analysis was stopped. You were not charged.",
            Self::InternalError => "Something went wrong on our side. You were not charged; please try again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_the_five_statuses_are_terminal() {
        let all = ["pending", "processing", "completed", "failed", "cancelled"];
        let parsed: Vec<RunStatus> = all.iter().filter_map(|status| status.parse().ok()).collect();
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), all);
        assert_eq!(parsed.iter().map(|status| status.is_terminal()).collect::<Vec<_>>(), [false, false, true, true, true]);
        assert!("complete".parse::<RunStatus>().is_err());
    }

    #[test]
    fn failure_codes_parse_back_match_their_json_and_have_a_message() {
        for code in FailureCode::ALL {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert_eq!(serde_json::json!(code), code.as_str());
            assert!(code.message().ends_with('.'));
        }
        assert!("NOPE".parse::<FailureCode>().is_err());
    }
}
