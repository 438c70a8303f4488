//! The twelve steps of an analysis, as progress shows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step. Its number, name and percentage are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// 1: the run has a name.
    GenerateRunId,
    /// 2: the run has a row.
    CreateRecord,
    /// 3: no other run of the handle is live.
    CheckDuplicate,
    /// 4: the balance covers it.
    CheckCredits,
    /// 5: the balance is charged.
    DeductCredits,
    /// 6: a fresh profile may be there already.
    CheckCache,
    /// 7: otherwise Apify fetches it.
    ScrapeProfile,
    /// 8: and it is kept.
    StoreProfile,
    /// 9: the models judge.
    AnalyzeProfile,
    /// 10: the lead exists.
    UpsertLead,
    /// 11: with its scores.
    SaveResults,
    /// 12: done.
    Complete,
}

impl Step {
    /// All of them, in order.
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

    /// 1 to 12.
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenerateRunId => "generate_run_id",
            Self::CreateRecord => "create_record",
            Self::CheckDuplicate => "check_duplicate",
            Self::CheckCredits => "check_credits",
            Self::DeductCredits => "deduct_credits",
            Self::CheckCache => "check_cache",
            Self::ScrapeProfile => "scrape_profile",
            Self::StoreProfile => "store_profile",
            Self::AnalyzeProfile => "analyze_profile",
            Self::UpsertLead => "upsert_lead",
            Self::SaveResults => "save_results",
            Self::Complete => "complete",
        }
    }

    /// What a person reads while it runs.
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

    /// How far a run is when this step begins (0 to 100). The AI step moves on from its 50 up to [`AI_END`] as calls finish.
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

    /// The step that the API calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// The percentage once every AI call has answered.
pub const AI_END: u8 = 80;

/// How far a run in the AI step is, with `done` of `total` calls answered.
pub fn ai_percent(done: usize, total: usize) -> u8 {
    let start = Step::AnalyzeProfile.percent();
    let share = usize::from(AI_END - start) * done.min(total) / total.max(1);
    start + u8::try_from(share).unwrap_or(AI_END - start)
}

/// When a step ran and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Which.
    pub step: Step,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_at_ms: i64,
    /// How long it took, in microseconds: most steps are parts of one database transaction and take less than a millisecond.
    pub duration_us: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_named_and_climb() {
        let numbers: Vec<_> = Step::ALL.iter().map(|step| step.number()).collect();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        assert!(Step::ALL.is_sorted_by(|a, b| a.percent() < b.percent()));
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.as_str()), Some(step));
            assert_eq!(serde_json::json!(step), step.as_str());
            assert!(!step.label().is_empty());
        }
        assert_eq!(Step::from_name("nap"), None);
    }

    #[test]
    fn ai_calls_move_progress_from_50_to_80() {
        assert_eq!([ai_percent(0, 4), ai_percent(1, 4), ai_percent(4, 4), ai_percent(9, 4), ai_percent(0, 0)], [50, 57, 80, 80, 50]);
    }
}
