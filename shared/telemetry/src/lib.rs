//! Logs, metrics and error reports: one JSON object a line on standard output, which Lambda collects.
//!
//! Every line within a request or task carries its `requestId` and, where they are known, `run_id` and `account_id`: callers open a span
//! with these fields and log inside it. Secrets, tokens, bodies and texts of profiles are never logged.

mod lines;
mod metrics;
mod sentry;

use std::sync::OnceLock;

pub use metrics::{Metrics, Unit, count_error};
pub use sentry::{DsnSource, send_errors, send_errors_to};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What logs, metrics and error reports say of the function that writes them.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The environment, such as `production`: a dimension of every metric.
    pub environment: String,
    /// The function's name.
    pub function: Option<String>,
    /// The level of our own log lines; `info` if it is absent or unknown.
    pub log_level: Option<String>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Returns the settings. Before [`init`] there are none, as in unit tests.
fn settings() -> Option<&'static Settings> {
    SETTINGS.get()
}

/// Starts logging. Later calls change nothing.
pub fn init(settings: Settings) {
    let level = settings.log_level.as_deref().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    if SETTINGS.set(settings).is_err() {
        return;
    }
    // Our own crates log at the configured level, libraries only warnings and errors. HTTP and TLS layers at `trace` would print headers,
    // and with them tokens: they stay off whatever the level.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("oslira", level)
        // The span that has the request's id while an event is parsed.
        .with_target("lambda_runtime::layers::trace", LevelFilter::INFO)
        // It logs every error that a handler returns as if it had been a panic. The invocation layer logs both.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_span_events(FmtSpan::NONE)
        .with_target(true)
        .with_writer(lines::RecordedStdout);
    let _ = tracing_subscriber::registry().with(layer).with(filter).try_init();
    // Logged here, because the span that the panic happens in is known only here.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let error = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(location, error, "panicked");
    }));
}
