//! `cargo local bench`: measures the product on a stack of its own, each value beside its lower bound, which is measured in the same run.

mod cost;
mod flows;
mod functions;
mod runtime;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use local::{Options, Stack};
use table::Report;

/// What to measure, and how.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub(crate) struct Settings {
    /// Measure only start times, reads and sizes, with few repetitions
    #[arg(long)]
    quick: bool,
    /// Print one JSON object for each row instead of a table
    #[arg(long)]
    json: bool,
    /// Measure debug binaries: to try the command, not to compare results
    #[arg(long, conflicts_with = "release")]
    debug: bool,
    /// Measure the binaries as they are deployed, which takes half an hour to build, instead of the profile `bench-functions`
    #[arg(long)]
    release: bool,
}

pub(crate) async fn bench(root: PathBuf, settings: &Settings) -> Result<()> {
    let mut options = Options::new(root, ".local/bench");
    options.progress = true;
    options.profile = match settings {
        Settings { debug: true, .. } => None,
        Settings { release: true, .. } => Some("release"),
        _ => Some("bench-functions"),
    };
    let stack = Stack::start(options).await?;
    let mut report = Report::new(settings.json);
    measure(&stack, settings, &mut report).await;
    stack.stop().await;
    report.finish()
}

async fn measure(stack: &Stack, settings: &Settings, report: &mut Report) {
    let repeats = if settings.quick { 5 } else { 25 };
    functions::reads(stack, repeats * 8, report).await;
    functions::starts(stack, repeats, report).await;
    functions::sizes(stack, report);
    if settings.quick {
        return;
    }
    flows::light(stack, repeats, report).await;
    cost::costs(stack, report).await;
    flows::crowds(stack, report).await;
    flows::tiers(stack, report).await;
    report.add("a batch of 100", flows::bulk(stack).await);
    report.add("debits of one account", flows::debits(stack).await);
}
