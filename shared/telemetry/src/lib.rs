//! Logs and metrics: one JSON object a line on standard output, where Lambda collects them.
//!
//! Every line within a request or task carries its `requestId` and, where there is one, `run_id` and `account_id`: open a span with
//! these fields and log inside it. Never logged: secrets, tokens, bodies, texts of profiles.

mod lines;
mod metrics;
mod panics;
mod sentry;

pub use metrics::{Metrics, Unit, count_error};
pub use panics::{Panicked, caught};
pub use sentry::{DsnSource, report, report_to};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at the level in `LOG_LEVEL` (default `info`). Later calls change nothing.
pub fn init() {
    let level = std::env::var("LOG_LEVEL").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    // Our own crates at the level asked for; libraries speak only when something is wrong. HTTP and TLS layers at `trace` would
    // print headers, and with them tokens: they stay off whatever the level.
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("oslira", level)
        // The span that has the request's id when an event is not even of the function's type.
        .with_target("lambda_runtime::layers::trace", LevelFilter::INFO)
        // Of its warnings and errors, errors that tasks answer are told as if they had been panics.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_span_events(FmtSpan::NONE)
        .with_target(true)
        .with_writer(lines::Remembered);
    let _ = tracing_subscriber::registry().with(layer).with(filter).try_init();
    // The runtime would tell every error that a task answers as if it were a panic; adapters tell those. A real one is told here, in the
    // span that it happens in.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let why = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(place, why, "panicked");
    }));
}
