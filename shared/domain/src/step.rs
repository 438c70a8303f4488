//! The twelve steps of an analysis, as progress reports them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// A step. Its number, name and percentage are part of the API.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Step {
    /// 1: the run's id is generated.
    GenerateRunId,
    /// 2: the run is recorded.
    CreateRecord,
    /// 3: no other run of the handle is in progress.
    CheckDuplicate,
    /// 4: the balance covers the price.
    CheckCredits,
    /// 5: the account is charged.
    DeductCredits,
    /// 6: the cache is read.
    CheckCache,
    /// 7: after a miss, Apify fetches the profile.
    ScrapeProfile,
    /// 8: the fetched profile is cached.
    StoreProfile,
    /// 9: the models answer the tier's questions.
    AnalyzeProfile,
    /// 10: the lead is created or updated.
    UpsertLead,
    /// 11: the results are stored.
    SaveResults,
    /// 12: the run is completed.
    Complete,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 12] = [
        Self::GenerateRunId,
        Self::CreateRecord,
        Self::CheckDuplicate,
        Self::CheckCredits,
        Self::DeductCredits,
        Self::CheckCache,
        Self::ScrapeProfile,
        Self::StoreProfile,
        Self::AnalyzeProfile,
        Self::UpsertLead,
        Self::SaveResults,
        Self::Complete,
    ];

    /// Returns its number, 1 to 12.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// Returns its name in the API.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns its label for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::GenerateRunId => "Starting",
            Self::CreateRecord => "Creating the record",
            Self::CheckDuplicate => "Looking for a run of the same profile",
            Self::CheckCredits => "Checking credits",
            Self::DeductCredits => "Deducting credits",
            Self::CheckCache => "Looking for a recent copy of the profile",
            Self::ScrapeProfile => "Fetching the profile",
            Self::StoreProfile => "Keeping the profile",
            Self::AnalyzeProfile => "Judging the profile",
            Self::UpsertLead => "Saving the lead",
            Self::SaveResults => "Saving the results",
            Self::Complete => "Complete",
        }
    }

    /// Returns a run's percentage when this step begins. During the AI step it rises from 50 to [`AI_END`] with each answer.
    pub const fn percent(self) -> u8 {
        match self {
            Self::GenerateRunId => 0,
            Self::CreateRecord => 5,
            Self::CheckDuplicate => 8,
            Self::CheckCredits => 10,
            Self::DeductCredits => 15,
            Self::CheckCache => 20,
            Self::ScrapeProfile => 30,
            Self::StoreProfile => 45,
            Self::AnalyzeProfile => 50,
            Self::UpsertLead => 85,
            Self::SaveResults => 95,
            Self::Complete => 100,
        }
    }
}

/// The percentage when every question is answered.
pub const AI_END: u8 = 80;

/// Returns the percentage of a run in the AI step with `done` of `total` questions answered.
pub fn ai_percent(done: usize, total: usize) -> u8 {
    let start = Step::AnalyzeProfile.percent();
    let share = usize::from(AI_END - start) * done.min(total) / total.max(1);
    start + u8::try_from(share).unwrap_or(AI_END - start)
}

/// When a step ran and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    /// The step.
    pub step: Step,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long it took, in microseconds. Most steps are parts of one database transaction and take less than a millisecond.
    pub duration_us: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_numbers_names_and_rising_percentages() {
        let numbers: Vec<_> = Step::ALL.iter().map(|step| step.number()).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        assert!(Step::ALL.is_sorted_by(|a, b| a.percent() < b.percent()));
        for step in Step::ALL {
            assert_eq!(step.as_str().parse(), Ok(step));
            assert_eq!(serde_json::json!(step), step.as_str());
            assert!(!step.label().is_empty());
        }
        assert!("nap".parse::<Step>().is_err());
    }

    #[test]
    fn answers_raise_the_percentage_from_50_to_80() {
        assert_eq!([ai_percent(0, 4), ai_percent(1, 4), ai_percent(4, 4), ai_percent(9, 4), ai_percent(0, 0)], [50, 57, 80, 80, 50]);
    }
}
