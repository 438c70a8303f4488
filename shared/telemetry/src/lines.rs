//! The last log lines of an invocation, recorded for error reports: a report holds what was written to the log, and nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

/// How many lines before an error are sent with it.
const BREADCRUMBS: usize = 20;
/// How many errors are kept at once.
const MAX_ERRORS: usize = 5;

/// The line of an error, with the lines before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedError {
    /// Its id in Sentry, which stays the same however often it is sent.
    pub(crate) id: Uuid,
    pub(crate) line: String,
    pub(crate) before: Vec<String>,
    /// Where it was logged: the unit of work first, then the statement in it.
    pub(crate) places: Vec<Place>,
}

/// A place in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name of the span that was opened there. `None` for a statement in it.
    pub(crate) span: Option<&'static str>,
    pub(crate) module: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

impl Place {
    fn of(metadata: &Metadata<'_>, span: Option<&'static str>) -> Self {
        let (module, file) = (metadata.module_path().map(ToOwned::to_owned), metadata.file().map(ToOwned::to_owned));
        Self { span, module, file, line: metadata.line() }
    }
}

/// What the current invocation has written.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    recent: VecDeque<String>,
    errors: Vec<LoggedError>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { recent: VecDeque::new(), errors: Vec::new() });

impl Lines {
    /// Adds a line, and the places of an error. Whether a line is an error is known from its event and not read out of the line.
    fn add(&mut self, line: &str, error: Option<Vec<Place>>) {
        if let Some(places) = error.filter(|_| self.errors.len() < MAX_ERRORS) {
            let before = self.recent.iter().cloned().collect();
            self.errors.push(LoggedError { id: Uuid::new_v4(), line: line.to_owned(), before, places });
        }
        if self.recent.len() == BREADCRUMBS {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
    }

    /// Puts errors that could not be sent before those that follow.
    fn restore(&mut self, unsent: Vec<LoggedError>) {
        self.errors.splice(0..0, unsent);
        self.errors.truncate(MAX_ERRORS);
    }

    /// Returns the errors since the last call and those that were restored. Forgets everything else.
    pub(crate) fn take(&mut self) -> Vec<LoggedError> {
        self.recent.clear();
        std::mem::take(&mut self.errors)
    }
}

/// Keeps errors that could not be sent for the end of a later invocation.
pub(crate) fn restore(unsent: Vec<LoggedError>) {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).restore(unsent);
}

/// Returns the errors of the invocation that ends.
pub(crate) fn take() -> Vec<LoggedError> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Standard output, with a record of its last lines.
pub(crate) struct RecordedStdout;

/// Writes one line.
pub(crate) struct LineWriter {
    /// The places of an error.
    error: Option<Vec<Place>>,
}

impl<'a> MakeWriter<'a> for RecordedStdout {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter { error: None }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LineWriter {
        let places = || {
            let span = tracing::Span::current().metadata().map(|span| Place::of(span, Some(span.name())));
            span.into_iter().chain([Place::of(event, None)]).collect()
        };
        LineWriter { error: (*event.level() == Level::ERROR).then(places) }
    }
}

impl Write for LineWriter {
    /// Receives one whole line a call, as the formatter writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).add(&String::from_utf8_lossy(line), self.error.take());
        io::stdout().lock().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_lines_before_it() {
        let mut lines = Lines::default();
        for number in 0..30 {
            lines.add(&format!(r#"{{"level":"INFO","message":"{number}"}}"#), None);
        }
        lines.add(r#"{"level":"ERROR","message":"bad"}"#, Some(Vec::new()));
        // Only the event decides, not what is in the line.
        lines.add(r#"{"level":"INFO","message":"after","quoted":"\"level\":\"ERROR\""}"#, None);
        let errors = lines.take();
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].before.len(), errors[0].line.as_str()), (20, r#"{"level":"ERROR","message":"bad"}"#));
        assert!(errors[0].before[0].contains(r#""10""#) && errors[0].before[19].contains(r#""29""#));
        assert_eq!(lines.take(), []);
        // Of a loop that keeps failing only a few errors are kept.
        for _ in 0..100 {
            lines.add(r#"{"level":"ERROR"}"#, Some(Vec::new()));
        }
        assert_eq!(lines.take().len(), MAX_ERRORS);
        // What was restored comes first.
        lines.add(r#"{"level":"ERROR","message":"new"}"#, Some(Vec::new()));
        lines.restore(errors.clone());
        let together = lines.take();
        assert_eq!((together.len(), &together[0]), (2, &errors[0]));
    }
}
