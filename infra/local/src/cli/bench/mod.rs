//! `cargo local bench`: what the product does, each beside the least that it could take, measured in turn in one run.

mod flows;
mod functions;
mod runtime;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use local::{Options, Stack};
use table::Row;

/// What to measure, and how.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// Only start times and reads, each a few times
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Measure debug binaries, which are there sooner: to try the command, not to compare anything
    #[arg(long)]
    debug: bool,
}

pub(crate) async fn bench(root: PathBuf, settings: &Settings) -> Result<()> {
    let mut options = Options::new(root, ".local/bench");
    options.progress = true;
    options.release = !settings.debug;
    let stack = Stack::start(options).await?;
    let measured = measure(&stack, settings).await;
    stack.stop().await;
    let rows = measured?;
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        table::print(&rows);
    }
    Ok(())
}

async fn measure(stack: &Stack, settings: &Settings) -> Result<Vec<Row>> {
    let repeats = if settings.quick { 5 } else { 25 };
    let mut rows = functions::reads(stack, repeats * 8).await?;
    rows.extend(functions::starts(stack, repeats).await?);
    rows.extend(functions::sizes(stack)?);
    if !settings.quick {
        rows.extend(flows::light(stack, repeats).await?);
        rows.extend(flows::crowd(stack).await?);
        rows.extend(flows::tiers(stack).await?);
        rows.extend(flows::bulk(stack).await?);
        rows.extend(flows::debits(stack).await?);
    }
    Ok(rows)
}
