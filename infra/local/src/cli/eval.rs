//! `cargo local eval`: judges the models of a catalogue without the stack.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use local::Live;
use oslira_domain::{MicroUsd, Tier};

/// What to judge, and how thoroughly.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// The catalogue of models to judge; without it, the compiled-in one
    #[arg(long)]
    catalogue: Option<PathBuf>,
    /// A catalogue to compare it with
    #[arg(long)]
    against: Option<PathBuf>,
    /// The answers to each question about each profile
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    samples: u32,
    /// A tier to judge: light, deep or xray; without it, all of them
    #[arg(long)]
    tier: Vec<Tier>,
    /// The US dollars after which no further question starts; at 0, kept answers are scored without a call
    #[arg(long, default_value_t = 5.0)]
    max_cost: f64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// # Errors
/// Fails if a key or a file is missing, a provider rejects the requests, or the models miss a gate.
pub(crate) async fn eval(root: &Path, state_dir: &Path, settings: &Settings) -> Result<()> {
    ensure!(settings.max_cost.is_finite() && settings.max_cost >= 0.0, "--max-cost is an amount of US dollars");
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let builtin = root.join("shared/vendors/models.toml");
    let (endpoints, secrets) = Live::read(|name| std::env::var(name).ok())?.models()?;
    let mut tiers = if settings.tier.is_empty() { Tier::ALL.to_vec() } else { settings.tier.clone() };
    tiers.sort_unstable();
    tiers.dedup();
    let request = eval::Settings {
        catalogue: read(settings.catalogue.as_ref().unwrap_or(&builtin))?,
        against: settings.against.as_deref().map(read).transpose()?,
        samples: settings.samples,
        tiers,
        max_cost: MicroUsd::from_usd(settings.max_cost).0,
    };
    let report = eval::evaluate(&request, &endpoints, &secrets, &state_dir.join("eval.jsonl")).await?;
    if settings.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    if !report.failures.is_empty() {
        bail!("{} gates were not passed", report.failures.len());
    }
    Ok(())
}
