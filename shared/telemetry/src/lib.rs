//! Logs and metrics: one JSON object a line on standard output, where Lambda collects them.
//!
//! Every line within a request or task carries its `requestId` and, where there is one, `run_id` and `account_id`: open a span with
//! these fields and log inside it. Never logged: secrets, tokens, bodies, texts of profiles.

mod lines;
mod metrics;
mod sentry;

pub use metrics::{Metrics, Unit, count_error};
pub use sentry::{DsnSource, report, report_to};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging at the level in `LOG_LEVEL` (default `info`). Later calls change nothing.
pub fn init() {
    let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    // Our own crates at the level asked for; libraries speak only when something is wrong. HTTP and TLS layers at `trace` would
    // print headers, and with them tokens: they stay off whatever the level.
    let filter = EnvFilter::try_new(format!("{level},hyper=warn,hyper_util=warn,h2=warn,rustls=warn,reqwest=warn,aws=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_config=warn,aws_sigv4=warn,tokio_postgres=warn,lambda_runtime=warn,lambda_runtime::layers::panic=off,lambda_http=warn,tower=warn"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_span_events(FmtSpan::NONE)
        .with_env_filter(filter)
        .with_target(true)
        .with_writer(lines::Remembered)
        .try_init();
    // The runtime would tell every error that a task answers as if it were a panic; adapters tell those. A real one is told here, in the
    // span that it happens in.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let why = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(place, why, "panicked");
    }));
}
