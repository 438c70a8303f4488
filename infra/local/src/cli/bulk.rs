//! `cargo local bulk`: analyzes many profiles in one batch and shows a table of their progress.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use local::StackInfo;
use serde_json::{Value, json};

use super::api::Api;

const POLL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_mins(10);
/// The width of the column of handles.
const COLUMN: usize = 30;

pub(crate) async fn bulk(info: &StackInfo, arguments: &[String], tier: &str, credits: u32) -> Result<()> {
    let handles = handles(arguments)?;
    let http = super::http()?;
    let demo = local::create_account(&http, info, credits).await?;
    let api = Api { http: &http, info, demo: &demo };
    println!("A new account with {credits} credits analyzes {} handles, {}.\n", handles.len(), tier.to_uppercase());
    let begun = Instant::now();
    let body = json!({ "usernames": handles, "businessProfileId": demo.business_profile_id, "analysisType": tier });
    let started = api.post("/api/leads/analyze/bulk", &body, None).await?;
    let batch_id = started["batch_id"].as_str().context("the response contains no batch id")?;
    println!("{batch_id}: {}", started["message"].as_str().unwrap_or_default());
    for rejected in started["analyses"].as_array().into_iter().flatten().filter(|entry| entry["status"] == "failed") {
        println!("  {} {}", style(rejected["error"]["code"].as_str().unwrap_or_default()).yellow(), rejected["error"]["message"]);
    }
    let ended = watch(&api, batch_id).await?;
    let took = begun.elapsed();
    let counts = &ended["status_counts"];
    println!("\n{}", style(ended["message"].as_str().unwrap_or_default()).bold());
    println!(
        "  {} completed, {} failed, {} cancelled in {:.1} s",
        counts["completed"],
        counts["failed"],
        counts["cancelled"],
        took.as_secs_f64()
    );
    let micro_usd = ended["cost_micro_usd"].as_i64().unwrap_or_default();
    println!(
        "  {} credits, cost {}.{:06} USD at the vendors' prices",
        ended["credits_charged"],
        micro_usd / 1_000_000,
        micro_usd % 1_000_000
    );
    Ok(())
}

/// Returns the handles of the arguments, each of which is a handle or a file with a handle a line (`#` begins a comment).
fn handles(arguments: &[String]) -> Result<Vec<String>> {
    let mut handles = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if path.is_file() {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {argument}"))?;
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            handles.extend(lines.filter(|line| !line.is_empty()).map(ToOwned::to_owned));
        } else {
            handles.push(argument.clone());
        }
    }
    Ok(handles)
}

/// Shows a line for each run, and one for the batch, until it is complete.
async fn watch(api: &Api<'_>, batch_id: &str) -> Result<Value> {
    let table = MultiProgress::new();
    let whole = ProgressStyle::with_template("{prefix:.bold} {bar:40.cyan/dim} {percent:>3}% {elapsed} {msg}")?;
    let line = ProgressStyle::with_template("  {prefix:31} {bar:20.green/dim} {msg}")?;
    let total = table.add(ProgressBar::new(100).with_style(whole).with_prefix("all"));
    let mut lines: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let begun = Instant::now();
    loop {
        let batch = api.get(&format!("/api/leads/analyze/bulk/{batch_id}/progress")).await?;
        for run in batch["analyses"].as_array().into_iter().flatten() {
            let name = run["username"].as_str().unwrap_or_default().to_owned();
            let bar = lines.entry(name.clone()).or_insert_with(|| {
                let short: String = name.chars().take(COLUMN).collect();
                table.add(ProgressBar::new(100).with_style(line.clone()).with_prefix(format!("@{short}")))
            });
            bar.set_position(run["progress"].as_u64().unwrap_or_default());
            bar.set_message(outcome(run));
            if run["is_complete"] == true && !bar.is_finished() {
                bar.abandon();
            }
        }
        total.set_position(batch["overall_progress"].as_u64().unwrap_or_default());
        total.set_message(batch["message"].as_str().unwrap_or_default().to_owned());
        if batch["is_complete"] == true {
            total.abandon();
            // Without a terminal, nothing has been drawn.
            if table.is_hidden() {
                batch["analyses"].as_array().into_iter().flatten().for_each(plain);
            }
            return Ok(batch);
        }
        if begun.elapsed() > PATIENCE {
            bail!("batch {batch_id} has not ended in time");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn plain(run: &Value) {
    println!("  @{:COLUMN$} {}", run["username"].as_str().unwrap_or_default(), outcome(run));
}

fn outcome(run: &Value) -> String {
    let status = run["status"].as_str().unwrap_or_default();
    match status {
        "completed" => style(format!("completed, score {}", run["overall_score"])).green().to_string(),
        "failed" => style(run["error"]["code"].as_str().unwrap_or(status)).red().to_string(),
        _ => status.to_owned(),
    }
}
