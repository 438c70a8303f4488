//! The one table.

use std::time::Duration;

use serde::Serialize;

/// A measured thing beside the least that it could be.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) floor: f64,
    pub(crate) unit: &'static str,
    /// What the floor is.
    pub(crate) beside: String,
    /// Measured by floor; of rates, floor by measured: above 1 is worse in both.
    pub(crate) ratio: f64,
}

impl Row {
    /// Of two durations, in milliseconds.
    pub(crate) fn times(what: impl Into<String>, measured: Duration, floor: Duration, beside: impl Into<String>) -> Self {
        let (measured, floor) = (measured.as_secs_f64() * 1e3, floor.as_secs_f64() * 1e3);
        Self { what: what.into(), measured, floor, unit: "ms", beside: beside.into(), ratio: measured / floor }
    }
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn print(rows: &[Row]) {
    println!("| what | measured | floor | ratio | the floor is |\n|---|---|---|---|---|");
    for row in rows {
        let number = |value: f64| if value < 100.0 { format!("{value:.2} {}", row.unit) } else { format!("{value:.0} {}", row.unit) };
        println!("| {} | {} | {} | {:.2} | {} |", row.what, number(row.measured), number(row.floor), row.ratio, row.beside);
    }
}
