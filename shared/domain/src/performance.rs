//! The durations of a run's parts.

use schemars::JsonSchema;
use serde::Serialize;

use crate::step::{Step, StepTiming};

/// The durations of a run's parts, in milliseconds. There are pauses between steps, so that the parts do not add up to the total.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Performance {
    /// From the request to the end.
    pub total_duration_ms: i64,
    /// Fetching and caching the profile. 0 after a cache hit.
    pub scraping_duration_ms: f64,
    /// From the first question until the last answer.
    pub ai_duration_ms: f64,
    /// The steps that are database transactions.
    pub db_duration_ms: f64,
    /// The step that took longest.
    pub bottleneck: Option<Bottleneck>,
}

/// The step that took longest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Bottleneck {
    /// The step.
    pub step: Step,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Its share of the total, 0 to 100.
    pub percentage: f64,
}

impl Performance {
    /// Computes the durations of a run that took `total_ms` in total.
    pub fn of(steps: &[StepTiming], total_ms: i64) -> Self {
        let sum =
            |part: &[Step]| milliseconds(steps.iter().filter(|timing| part.contains(&timing.step)).map(|timing| timing.duration_us).sum());
        let longest = steps.iter().max_by_key(|timing| timing.duration_us);
        Self {
            total_duration_ms: total_ms,
            scraping_duration_ms: sum(&[Step::ScrapeProfile, Step::StoreProfile]),
            ai_duration_ms: sum(&[Step::AnalyzeProfile]),
            db_duration_ms: sum(&[
                Step::CreateRecord,
                Step::CheckDuplicate,
                Step::CheckCredits,
                Step::DeductCredits,
                Step::UpsertLead,
                Step::SaveResults,
                Step::Complete,
            ]),
            bottleneck: longest.map(|timing| {
                let duration_ms = milliseconds(timing.duration_us);
                let total = milliseconds(total_ms.saturating_mul(1000)).max(duration_ms);
                let percentage = if total > 0.0 { (duration_ms / total * 10_000.0).round() / 100.0 } else { 0.0 };
                Bottleneck { step: timing.step, duration_ms, percentage }
            }),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration of minutes in microseconds fits")]
fn milliseconds(us: i64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(step: Step, duration_us: i64) -> StepTiming {
        StepTiming { step, started_at_ms: 0, duration_us }
    }

    #[test]
    fn durations_are_summed_by_part() {
        let steps = [
            timing(Step::CreateRecord, 500),
            timing(Step::CheckCache, 9_000),
            timing(Step::ScrapeProfile, 100_000),
            timing(Step::StoreProfile, 20_000),
            timing(Step::AnalyzeProfile, 250_500),
            timing(Step::Complete, 1_500),
        ];
        let expected = Performance {
            total_duration_ms: 501,
            scraping_duration_ms: 120.0,
            ai_duration_ms: 250.5,
            db_duration_ms: 2.0,
            bottleneck: Some(Bottleneck { step: Step::AnalyzeProfile, duration_ms: 250.5, percentage: 50.0 }),
        };
        assert_eq!(Performance::of(&steps, 501), expected);
    }

    #[test]
    fn a_run_without_steps_or_without_time_has_no_impossible_shares() {
        assert_eq!(Performance::of(&[], 0).bottleneck, None);
        let nothing = Performance::of(&[timing(Step::Complete, 0)], 0).bottleneck.unwrap();
        assert_eq!((nothing.duration_ms.to_bits(), nothing.percentage.to_bits()), (0, 0));
        // A clock that was set back, or a step that began before the run was recorded.
        let short = Performance::of(&[timing(Step::AnalyzeProfile, 2_000)], 1).bottleneck.unwrap();
        assert_eq!(short.percentage.to_bits(), 100.0_f64.to_bits());
    }
}
