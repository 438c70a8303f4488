//! The timings of steps.

use jiff::Timestamp;
use oslira_domain::{Step, StepTiming};

/// A step in progress.
pub struct Clock {
    step: Step,
    started: Timestamp,
}

impl Clock {
    /// Starts the step now.
    pub fn start(step: Step) -> Self {
        Self { step, started: Timestamp::now() }
    }

    /// Ends the step now.
    pub fn stop(&self) -> StepTiming {
        between(self.step, self.started, Timestamp::now())
    }
}

/// Returns the timing of a step that ran from `start` to `end`.
pub fn between(step: Step, start: Timestamp, end: Timestamp) -> StepTiming {
    let duration_us = i64::try_from(end.duration_since(start).as_micros()).unwrap_or(0).max(0);
    StepTiming { step, started_at_ms: start.as_millisecond(), duration_us }
}
