//! The report: checks, a table of all measures, and the gates that were not passed.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::gates::Failure;
use crate::measures::Measures;
use crate::preflight::{ANSWERS, Check};
use crate::stats::Rate;

/// The measures of one question of one catalogue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// `new`, or `old` for the catalogue compared with.
    pub catalogue: &'static str,
    /// The tier and the question.
    pub question: String,
    /// What was measured.
    #[serde(flatten)]
    pub measures: Measures,
}

/// The result of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The preflight of each route.
    pub preflight: Vec<Check>,
    /// The measures of each question.
    pub rows: Vec<Row>,
    /// What the calls of this evaluation cost, in micro-USD.
    pub spent: i64,
    /// Answers of earlier evaluations.
    pub kept: u32,
    /// Questions without an answer.
    pub open: u32,
    /// The gates that were not passed.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether every server answers: without one, all questions would fail for the same cause.
    pub(crate) fn answers_are_of_use(&self) -> bool {
        self.preflight.iter().filter(|check| check.what == ANSWERS).all(|check| check.passed != Some(false))
    }
}

/// Writes the tables as Markdown.
impl Display for Report {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        if !self.preflight.is_empty() {
            writeln!(to, "| route | preflight | | |\n|---|---|---|---|")?;
            for check in &self.preflight {
                let passed = check.passed.map_or("not visible", |passed| if passed { "yes" } else { "NO" });
                writeln!(to, "| {} | {} | {passed} | {} |", check.route, check.what, check.detail)?;
            }
            writeln!(to)?;
        }
        writeln!(
            to,
            "| question | model | catalogue | answers | pairs | in band | action agrees | contradicting | noise | steered | mean rise | first try | USD per 1,000 | p50 / p95 ms |"
        )?;
        writeln!(to, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for Row { catalogue, question, measures } in &self.rows {
            write!(to, "| {question} | {} | {catalogue} | {} ", measures.model, measures.answers)?;
            for rate in [measures.pairs, measures.in_band, measures.action_agrees, measures.contradicting] {
                write!(to, "| {} ", percent(rate))?;
            }
            write!(to, "| {} | {} | {} ", number(measures.noise, 2), percent(measures.steered), number(measures.mean_rise, 1))?;
            write!(to, "| {} | {}", percent(measures.first_try), number(measures.mean_cost.map(|cost| cost / 1000.0), 3))?;
            if measures.unknown_costs > 0 {
                write!(to, " ({} unknown)", measures.unknown_costs)?;
            }
            let time = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
            writeln!(to, " | {} / {} |", time(measures.p50_ms), time(measures.p95_ms))?;
        }
        for Row { catalogue, question, measures } in &self.rows {
            for (kind, rate) in &measures.in_band_by_kind {
                writeln!(to, "in band, {question}, {catalogue}, {kind}: {}", percent(Some(*rate)))?;
            }
            for (reason, count) in &measures.reasons {
                writeln!(to, "failed attempts, {question}, {catalogue}: {count} × {reason}")?;
            }
        }
        writeln!(to, "\n{} answers kept, {} open, {} micro-USD spent", self.kept, self.open, self.spent)?;
        for failure in &self.failures {
            writeln!(to, "FAILED {:?} {}: {}", failure.gate, failure.question, failure.detail)?;
        }
        Ok(())
    }
}

fn percent(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0} % [{:.0}, {:.0}]", rate.value * 100.0, rate.low * 100.0, rate.high * 100.0))
}

fn number(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.decimals$}"))
}
