//! Reports the phases of a start: as spinners on a terminal and as plain lines elsewhere.
#![allow(clippy::print_stderr, reason = "a command-line tool")]

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use console::style;
use indicatif::{ProgressBar, ProgressStyle};

/// Reports phases on standard error, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    enabled: bool,
}

/// The line of a running phase.
#[derive(Clone)]
pub(crate) struct Phase {
    bar: Option<ProgressBar>,
}

impl Phase {
    pub(crate) fn note(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }
}

impl Progress {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    pub(crate) fn is_enabled(self) -> bool {
        self.enabled
    }

    /// Runs a phase with a spinner and reports its time.
    pub(crate) async fn phase<T, F: Future<Output = Result<T>>>(self, name: &str, work: impl FnOnce(Phase) -> F) -> Result<T> {
        if !self.enabled {
            return work(Phase { bar: None }).await;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix} {msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        let begun = Instant::now();
        let outcome = work(Phase { bar: Some(bar.clone()) }).await;
        bar.finish_and_clear();
        self.done(name, begun.elapsed(), outcome.is_ok());
        outcome
    }

    /// Prints a line about something that the developer did not ask for.
    pub(crate) fn notice(self, text: &str) {
        if self.enabled {
            eprintln!("{} {text}", style("!").yellow());
        }
    }

    /// Reports the end of a phase that reported its own progress.
    pub(crate) fn done(self, name: &str, time: Duration, succeeded: bool) {
        if self.enabled {
            let sign = if succeeded { style("✓").green() } else { style("✗").red() };
            eprintln!("{sign} {name} {}", style(format!("{:.1} s", time.as_secs_f64())).dim());
        }
    }
}
