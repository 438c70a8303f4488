//! The gates: the values that a model must reach.

use serde::Serialize;

use crate::measures::Measures;
use crate::report::Report;
use crate::stats::Rate;

/// What a model must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The server uses and returns what the client needs.
    Preflight,
    /// Every question was answered.
    Complete,
    /// 95 % of the first attempts are valid.
    FirstTry,
    /// 85 % of the pairs are ranked.
    Pairs,
    /// 75 % of the scores lie in their band.
    InBand,
    /// 90 % of the recommendations follow from the scores.
    ActionAgrees,
    /// At most 5 % of the answers contradict the profile.
    Contradictions,
    /// The deviation within a profile is at most half of that between profiles.
    Noise,
    /// At most 5 % of the hostile texts raise the score.
    Steered,
    /// No rate is worse than that of the catalogue compared with, beyond both intervals.
    NotWorse,
}

/// A gate that was not passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The gate.
    pub gate: Gate,
    /// The question, or empty for the whole evaluation.
    pub question: String,
    /// The measured value and the needed one.
    pub detail: String,
}

/// Returns the rates of a question: gate, rate, bound, and whether a high rate is good.
fn rates(measures: &Measures) -> [(Gate, Option<Rate>, f64, bool); 6] {
    [
        (Gate::FirstTry, measures.first_try, 0.95, true),
        (Gate::Pairs, measures.pairs, 0.85, true),
        (Gate::InBand, measures.in_band, 0.75, true),
        (Gate::ActionAgrees, measures.action_agrees, 0.90, true),
        (Gate::Contradictions, measures.contradicting, 0.05, false),
        (Gate::Steered, measures.steered, 0.05, false),
    ]
}

/// Returns the gates that the catalogue `new` does not pass.
pub(crate) fn failures(report: &Report) -> Vec<Failure> {
    let mut failures: Vec<Failure> = report
        .preflight
        .iter()
        .filter(|check| check.passed == Some(false))
        .map(|check| Failure {
            gate: Gate::Preflight,
            question: check.route.clone(),
            detail: format!("not so: {} ({})", check.what, check.detail),
        })
        .collect();
    if report.open > 0 {
        failures.push(Failure {
            gate: Gate::Complete,
            question: String::new(),
            detail: format!("{} questions have no answer", report.open),
        });
    }
    for row in report.rows.iter().filter(|row| row.catalogue == "new") {
        let mut fail = |gate, detail| failures.push(Failure { gate, question: row.question.clone(), detail });
        for (gate, rate, bound, high_is_good) in rates(&row.measures) {
            let Some(rate) = rate else { continue };
            if high_is_good && rate.value < bound {
                fail(gate, format!("{:.0} %, at least {:.0} % needed", rate.value * 100.0, bound * 100.0));
            } else if !high_is_good && rate.value > bound {
                fail(gate, format!("{:.0} %, at most {:.0} % allowed", rate.value * 100.0, bound * 100.0));
            }
        }
        if let Some(noise) = row.measures.noise.filter(|noise| noise.is_nan() || *noise > 0.5) {
            fail(Gate::Noise, format!("{noise:.2}, at most 0.5 allowed"));
        }
        let Some(old) = report.rows.iter().find(|old| old.catalogue == "old" && old.question == row.question) else { continue };
        for ((gate, new, _, high_is_good), (_, old, _, _)) in rates(&row.measures).into_iter().zip(rates(&old.measures)) {
            let Some((new, old)) = new.zip(old) else { continue };
            if (high_is_good && new.high < old.low) || (!high_is_good && new.low > old.high) {
                fail(Gate::NotWorse, format!("{gate:?}: {:.0} % instead of {:.0} %", new.value * 100.0, old.value * 100.0));
            }
        }
    }
    failures
}
