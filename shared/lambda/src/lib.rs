//! The one invocation layer of every Lambda function, and the triggers on it.
//!
//! A function's `main` calls [`init`], which reads its typed configuration, starts logging and registers Sentry. It then hands its
//! dependencies and its handler to a trigger: [`task`] (Step Functions), `queue` (SQS), [`schedule`] (EventBridge Scheduler) or [`direct`]
//! (an invocation by name). The HTTP triggers are in `oslira-http`, because they know tokens, limits and the envelope.
//!
//! Whatever the trigger, [`Invocation`] gives each unit of work its span, its deadline on this process's own clock, the catch of a panic,
//! its duration, the log line and the error count of its outcome. At the end of the invocation it sends errors to Sentry, because the
//! process may be frozen right afterwards.

pub mod config;
pub mod direct;
mod failure;
mod init;
mod invocation;
#[cfg(feature = "queue")]
pub mod queue;
pub mod schedule;
pub mod task;

pub use config::ConfigError;
pub use failure::{Failure, Panicked, Severity};
pub use init::{Init, init, init_logging, warm_up};
pub use invocation::{Event, Invocation};
pub use lambda_runtime::{Diagnostic, Error};
