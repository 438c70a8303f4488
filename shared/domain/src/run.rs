//! A run: one analysis from its start to its end.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AccountId, BusinessProfileId, RunId, Tier, UserId, Username};

/// Where a run is. Terminal states never change again; the database enforces the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Accepted, not charged yet.
    Pending,
    /// Charged and under way.
    Processing,
    /// Ended with a result, paid.
    Completed,
    /// Ended without a result; a charge was refunded.
    Failed,
    /// Ended by its user; a charge was refunded.
    Cancelled,
}

impl RunStatus {
    /// Whether nothing more can happen.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The word in the API and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunStatus {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or("pending, processing, completed, failed or cancelled")
    }
}

/// What identifies a run and its work: the input of the execution and of every task in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub run_id: RunId,
    /// Who pays.
    pub account_id: AccountId,
    /// For which business.
    pub business_profile_id: BusinessProfileId,
    /// Who asked.
    pub requested_by: UserId,
    /// Whom to judge.
    pub username: Username,
    /// How deep.
    pub tier: Tier,
    /// When it was asked for, in milliseconds since 1970 UTC.
    pub requested_at_ms: i64,
}

/// Why a run ended without a result, as clients see it. Every one of them ends uncharged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCode {
    /// Another run of the same handle was live.
    DuplicateAnalysis,
    /// The balance did not cover it.
    InsufficientCredits,
    /// The business profile is gone, or was never the account's.
    BusinessProfileNotFound,
    /// Instagram knows no such profile.
    ProfileNotFound,
    /// The profile is private.
    ProfilePrivate,
    /// The profile could not be fetched, even after retries.
    ScrapeFailed,
    /// No model of any provider answered, even after retries.
    AiFailed,
    /// The model declined to judge the profile.
    AiRefused,
    /// The model's answer broke its schema twice.
    AiInvalidOutput,
    /// The run took longer than it may.
    TimedOut,
    /// The execution was stopped from outside.
    Aborted,
    /// Something on our side.
    InternalError,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 12] = [
        Self::DuplicateAnalysis,
        Self::InsufficientCredits,
        Self::BusinessProfileNotFound,
        Self::ProfileNotFound,
        Self::ProfilePrivate,
        Self::ScrapeFailed,
        Self::AiFailed,
        Self::AiRefused,
        Self::AiInvalidOutput,
        Self::TimedOut,
        Self::Aborted,
        Self::InternalError,
    ];

    /// The machine code in the API and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateAnalysis => "DUPLICATE_ANALYSIS",
            Self::InsufficientCredits => "INSUFFICIENT_CREDITS",
            Self::BusinessProfileNotFound => "BUSINESS_PROFILE_NOT_FOUND",
            Self::ProfileNotFound => "PROFILE_NOT_FOUND",
            Self::ProfilePrivate => "PROFILE_PRIVATE",
            Self::ScrapeFailed => "SCRAPE_FAILED",
            Self::AiFailed => "AI_FAILED",
            Self::AiRefused => "AI_REFUSED",
            Self::AiInvalidOutput => "AI_INVALID_OUTPUT",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// What a person reads.
    pub const fn message(self) -> &'static str {
        match self {
            Self::DuplicateAnalysis => "This profile is being analysed already.",
            Self::InsufficientCredits => "The account has not enough credits.",
            Self::BusinessProfileNotFound => "The business profile does not exist.",
            Self::ProfileNotFound => "Instagram knows no such profile. You were not charged.",
            Self::ProfilePrivate => "The profile is private and cannot be judged. You were not charged.",
            Self::ScrapeFailed => "The profile could not be fetched. You were not charged; please try again.",
            Self::AiFailed => "The analysis did not succeed. You were not charged; please try again.",
            Self::AiRefused => "The model declined to judge this profile. You were not charged.",
            Self::AiInvalidOutput => "The model gave no usable answer. You were not charged; please try again.",
            Self::TimedOut => "The analysis took too long. You were not charged; please try again.",
            Self::Aborted => "The analysis was stopped. You were not charged.",
            Self::InternalError => "Something went wrong on our side. You were not charged; please try again.",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FailureCode {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or("a failure code")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_words_and_three_of_them_final() {
        let all = ["pending", "processing", "completed", "failed", "cancelled"];
        let parsed: Vec<RunStatus> = all.iter().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), all);
        assert_eq!(parsed.iter().map(|status| status.is_terminal()).collect::<Vec<_>>(), [false, false, true, true, true]);
        assert!("complete".parse::<RunStatus>().is_err());
    }

    #[test]
    fn failure_codes_parse_back_match_their_json_and_explain_themselves() {
        for code in FailureCode::ALL {
            assert_eq!(code.to_string().parse(), Ok(code));
            assert_eq!(serde_json::json!(code), code.as_str());
            assert!(code.message().ends_with('.'));
        }
        assert!("NOPE".parse::<FailureCode>().is_err());
    }
}
