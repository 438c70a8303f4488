//! Failures, and how the layer treats them.

use std::fmt;
use std::panic::Location;

/// How the layer treats a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The caller's own error, or an end that the rules foresee. Logged at level `INFO`.
    Expected,
    /// May pass by itself; the caller retries, or the service that invoked the function does. Logged at level `WARN`.
    Retryable,
    /// A defect or an outage on our side. Logged at level `ERROR`, counted, and sent to Sentry.
    Defect,
}

/// The error of a handler.
///
/// A caught panic becomes such an error too, so that callers, metrics and Sentry see it as they see every other defect.
pub trait Failure: From<Panicked> {
    /// How the layer treats it.
    fn severity(&self) -> Severity;

    /// Its machine code: the dimension under which a defect is counted.
    fn code(&self) -> &'static str;

    /// Its cause, which is logged and returned to no client.
    fn cause(&self) -> Option<String>;

    /// Where in the code it was made, if that is known.
    fn place(&self) -> Option<&'static Location<'static>> {
        None
    }

    /// The HTTP status that it becomes.
    fn status(&self) -> Option<u16> {
        None
    }
}

/// A caught panic. The panic hook has logged its place and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicked")
    }
}

impl std::error::Error for Panicked {}
