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
    /// Measure only these parts
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "quick")]
    only: Vec<Part>,
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

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Reads,
    Starts,
    Sizes,
    Light,
    Costs,
    Crowds,
    Tiers,
    Bulk,
    Debits,
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
    let measures = |part: Part| match part {
        _ if !settings.only.is_empty() => settings.only.contains(&part),
        Part::Reads | Part::Starts | Part::Sizes => true,
        _ => !settings.quick,
    };
    if measures(Part::Reads) {
        functions::reads(stack, repeats * 8, report).await;
    }
    if measures(Part::Starts) {
        functions::starts(stack, repeats, report).await;
    }
    if measures(Part::Sizes) {
        functions::sizes(stack, report);
    }
    // Before other parts have started the environments of many runs.
    if measures(Part::Crowds) {
        flows::crowds(stack, report).await;
    }
    if measures(Part::Light) {
        flows::light(stack, repeats, report).await;
    }
    if measures(Part::Costs) {
        cost::costs(stack, report).await;
    }
    if measures(Part::Tiers) {
        flows::tiers(stack, report).await;
    }
    if measures(Part::Bulk) {
        report.add("a batch of 100", flows::bulk(stack).await);
    }
    if measures(Part::Debits) {
        report.add("debits of one account", flows::debits(stack).await);
    }
}
