//! The table of the results.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

/// A measured value beside its lower bound.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) floor: f64,
    pub(crate) unit: &'static str,
    /// What the floor is.
    pub(crate) beside: String,
    /// Measured by floor; for rates, floor by measured. Above 1 is worse in both cases.
    pub(crate) ratio: f64,
    /// Whether the floor is an upper bound, above which the benchmark fails.
    pub(crate) bounded: bool,
}

impl Row {
    /// Compares two durations, in milliseconds.
    pub(crate) fn times(what: impl Into<String>, measured: Duration, floor: Duration, beside: impl Into<String>) -> Self {
        let (measured, floor) = (measured.as_secs_f64() * 1e3, floor.as_secs_f64() * 1e3);
        Self { what: what.into(), measured, floor, unit: "ms", beside: beside.into(), ratio: measured / floor, bounded: false }
    }

    /// Compares a value with its upper bound.
    pub(crate) fn bounded(what: impl Into<String>, measured: f64, bound: f64, unit: &'static str, beside: impl Into<String>) -> Self {
        Self { what: what.into(), measured, floor: bound, unit, beside: beside.into(), ratio: measured / bound, bounded: true }
    }
}

/// Returns the median.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints each row as soon as it is measured, and counts the rows that could not be measured.
pub(crate) struct Report {
    json: bool,
    failed: Vec<String>,
    exceeded: Vec<String>,
}

impl Report {
    /// Prints the head of the table, or nothing if each row is printed as a line of JSON.
    pub(crate) fn new(json: bool) -> Self {
        if !json {
            println!("| what | measured | floor | ratio | the floor is |\n|---|---|---|---|---|");
        }
        Self { json, failed: Vec::new(), exceeded: Vec::new() }
    }

    /// Prints a row, or the reason why `what` could not be measured.
    pub(crate) fn add(&mut self, what: &str, row: Result<Row>) {
        if let Ok(row) = &row
            && row.bounded
            && row.measured > row.floor
        {
            self.exceeded.push(what.to_owned());
        }
        match row {
            Ok(row) if self.json => println!("{}", serde_json::json!(row)),
            Ok(row) => {
                let number = |value: f64| {
                    if value < 1.0 {
                        format!("{value:.3} {}", row.unit)
                    } else if value < 100.0 {
                        format!("{value:.2} {}", row.unit)
                    } else {
                        format!("{value:.0} {}", row.unit)
                    }
                };
                println!("| {} | {} | {} | {:.2} | {} |", row.what, number(row.measured), number(row.floor), row.ratio, row.beside);
            }
            Err(error) => {
                eprintln!("{what} could not be measured: {error:#}");
                self.failed.push(what.to_owned());
            }
        }
    }

    /// # Errors
    /// Fails if a row could not be measured, or is above its bound.
    pub(crate) fn finish(self) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("{} rows could not be measured: {}", self.failed.len(), self.failed.join(", "));
        }
        if !self.exceeded.is_empty() {
            bail!("above their upper bounds: {}", self.exceeded.join(", "));
        }
        Ok(())
    }
}
