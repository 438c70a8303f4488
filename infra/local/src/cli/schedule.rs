//! `cargo local schedule`: invokes the function of a schedule.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use clap::ValueEnum;
use local::StackInfo;
use serde_json::{Value, json};

/// The maximum timeout of a Lambda function.
const PATIENCE: Duration = Duration::from_mins(15);

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Schedule {
    /// Monthly: grants the credits of free subscriptions and checks those of Stripe
    RenewSubscriptions,
    /// Daily: deletes data that is past its retention
    CleanUp,
    /// Every minute: publishes metrics of ended runs and credit transactions
    ReportUsage,
    /// Hourly: stops, fails and refunds runs that make no progress
    EndStuckRuns,
}

impl Schedule {
    const fn binary(self) -> &'static str {
        match self {
            Self::RenewSubscriptions => "renew_subscriptions",
            Self::CleanUp => "clean_up",
            Self::ReportUsage => "report_usage",
            Self::EndStuckRuns => "end_stuck_runs",
        }
    }
}

pub(crate) async fn schedule(info: &StackInfo, state_dir: &Path, schedule: Schedule, dry_run: bool) -> Result<()> {
    let functions = local::functions_of(state_dir);
    let function = functions.get(schedule.binary()).context("the running stack is older than this schedule: start it again")?;
    let timeouts = TimeoutConfig::builder().read_timeout(PATIENCE).operation_timeout(PATIENCE).build();
    let config = aws_sdk_lambda::config::Builder::from(&info.sdk_config()).timeout_config(timeouts).build();
    let payload = Blob::new(json!({ "dry_run": dry_run }).to_string());
    let answer = aws_sdk_lambda::Client::from_conf(config).invoke().function_name(function).payload(payload).send().await;
    let answer = answer.context("the emulator does not respond")?;
    let body: Value = answer.payload().map(|body| serde_json::from_slice(body.as_ref())).transpose()?.unwrap_or_default();
    if answer.function_error().is_some() {
        bail!("{}: see `cargo local logs {}`", body["errorMessage"].as_str().unwrap_or("it failed"), schedule.binary());
    }
    println!("{}", serde_json::to_string_pretty(&body)?);
    Ok(())
}
