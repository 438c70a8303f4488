//! The last log lines, kept for whoever reports an error: what was written is what is reported, and nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

/// How many lines before an error are reported with it.
const BREADCRUMBS: usize = 20;
/// How many errors are reported at once.
const MAX_ERRORS: usize = 5;

/// An error's line and those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What Sentry knows it by, however often it is sent.
    pub(crate) id: Uuid,
    pub(crate) line: String,
    pub(crate) before: Vec<String>,
}

/// What the current invocation has written.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    recent: VecDeque<String>,
    failures: Vec<Failure>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { recent: VecDeque::new(), failures: Vec::new() });

impl Lines {
    fn add(&mut self, line: &str) {
        // Our lines are objects that begin with timestamp and level: no need to parse those that nobody asks for.
        if line.contains(r#""level":"ERROR""#) && self.failures.len() < MAX_ERRORS {
            self.failures.push(Failure { id: Uuid::new_v4(), line: line.to_owned(), before: self.recent.iter().cloned().collect() });
        }
        if self.recent.len() == BREADCRUMBS {
            self.recent.pop_front();
        }
        self.recent.push_back(line.to_owned());
    }

    /// Keeps errors that could not be reported for the next report.
    fn keep(&mut self, unsent: Vec<Failure>) {
        self.failures.splice(0..0, unsent);
        self.failures.truncate(MAX_ERRORS);
    }

    /// The errors since this was last asked, and those that were kept; forgets everything else.
    pub(crate) fn take(&mut self) -> Vec<Failure> {
        self.recent.clear();
        std::mem::take(&mut self.failures)
    }
}

/// Keeps errors that could not be reported for the end of a later invocation.
pub(crate) fn keep(unsent: Vec<Failure>) {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).keep(unsent);
}

/// The errors of the invocation that ends.
pub(crate) fn take() -> Vec<Failure> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Standard output, with a memory.
pub(crate) struct Remembered;

impl<'a> MakeWriter<'a> for Remembered {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Remembered {
    /// Gets one whole line a call, as the formatter writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).add(&String::from_utf8_lossy(line));
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
    fn an_error_comes_with_what_was_written_before_it() {
        let mut lines = Lines::default();
        for number in 0..30 {
            lines.add(&format!(r#"{{"level":"INFO","message":"{number}"}}"#));
        }
        lines.add(r#"{"level":"ERROR","message":"bad"}"#);
        lines.add(r#"{"level":"INFO","message":"after"}"#);
        let failures = lines.take();
        assert_eq!(failures.len(), 1);
        assert_eq!((failures[0].before.len(), failures[0].line.as_str()), (20, r#"{"level":"ERROR","message":"bad"}"#));
        assert!(failures[0].before[0].contains(r#""10""#) && failures[0].before[19].contains(r#""29""#));
        assert_eq!(lines.take(), []);
        // A loop that fails again and again is reported a few times.
        for _ in 0..100 {
            lines.add(r#"{"level":"ERROR"}"#);
        }
        assert_eq!(lines.take().len(), MAX_ERRORS);
        // What was kept comes first.
        lines.add(r#"{"level":"ERROR","message":"new"}"#);
        lines.keep(failures.clone());
        let together = lines.take();
        assert_eq!((together.len(), &together[0]), (2, &failures[0]));
    }
}
