//! `cargo local demo`: runs one analysis of each tier and shows its progress.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use local::{Demo, StackInfo};
use serde_json::Value;

use super::api::Api;

const TIERS: [&str; 3] = ["light", "deep", "xray"];

/// The credits of a new account.
pub(super) const SIGNUP_CREDITS: u32 = 25;
const POLL: Duration = Duration::from_millis(60);

pub(crate) async fn demo(info: &StackInfo, handle: &str) -> Result<()> {
    let http = super::http()?;
    let demo = local::create_account(&http, info, SIGNUP_CREDITS).await?;
    let api = Api { http: &http, info, demo: &demo };
    println!("A new account with {SIGNUP_CREDITS} credits analyzes @{handle} in each tier.\n");
    let mut spent = 0;
    for tier in TIERS {
        let run = api.start(handle, tier).await?;
        let progress = watch(&api, &run, tier).await?;
        steps(&progress);
        if progress["status"] != "completed" {
            bail!("{tier} ended as {}: {}", progress["status"], progress["error"]);
        }
        let result = api.result(&run).await?;
        spent += outcome(&result);
    }
    println!("All three cost {} at the vendors' prices.\n", usd(spent));
    println!("{}", style("Ledger").bold());
    show_ledger(info, &demo).await
}

pub(super) async fn show_ledger(info: &StackInfo, demo: &Demo) -> Result<()> {
    for entry in local::ledger(&info.admin_database_url, &demo.account_id).await? {
        println!(
            "  {:>4}  balance {:>3}  {:<14} {}",
            format!("{:+}", entry.amount),
            entry.balance_after,
            entry.transaction_type,
            entry.description
        );
    }
    Ok(())
}

/// Shows the progress until the run has ended, and returns the last one.
async fn watch(api: &Api<'_>, run: &str, tier: &str) -> Result<Value> {
    let bar = ProgressBar::new(100);
    bar.set_style(ProgressStyle::with_template("{prefix:>5} {bar:30.cyan/dim} {percent:>3}% {msg}")?);
    bar.set_prefix(tier.to_uppercase());
    let patience = Instant::now() + Duration::from_mins(5);
    loop {
        let progress = api.progress(run).await?;
        bar.set_position(progress["progress"].as_u64().unwrap_or_default());
        bar.set_message(progress["message"].as_str().unwrap_or_default().to_owned());
        if !progress["completed_at"].is_null() {
            bar.finish_and_clear();
            return Ok(progress);
        }
        if Instant::now() > patience {
            bail!("run {run} has not ended in time");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn steps(progress: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    println!(
        "{} of @{}, {}",
        style(text(&progress["analysis_type"]).to_uppercase()).bold(),
        text(&progress["username"]),
        text(&progress["run_id"])
    );
    for step in progress["steps"].as_array().into_iter().flatten() {
        let time = step["duration_ms"].as_f64().map_or_else(|| text(&step["status"]), |time| format!("{time:.1} ms"));
        println!("  {:>2} {:<42} {time:>10}", step["number"].as_u64().unwrap_or_default(), text(&step["label"]));
    }
}

/// Prints the result and returns its cost in micro-USD.
fn outcome(result: &Value) -> i64 {
    let number = |name: &str| result[name].as_i64().unwrap_or_default();
    let scores =
        format!("score {}, niche fit {}, engagement {}", number("overall_score"), number("niche_fit_score"), number("engagement_score"));
    println!("  {}", style(scores).green());
    for line in wrapped(result["summary_text"].as_str().unwrap_or_default(), 96) {
        println!("  {line}");
    }
    println!("  charged {} credits, cost {}\n", number("credits_charged"), usd(number("actual_cost_micro_usd")));
    number("actual_cost_micro_usd")
}

fn usd(micro_usd: i64) -> String {
    format!("{}.{:06} USD", micro_usd / 1_000_000, micro_usd % 1_000_000)
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
