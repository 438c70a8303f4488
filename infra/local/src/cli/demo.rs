//! `cargo local demo`: one analysis of each tier, watched.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use local::StackInfo;
use serde_json::Value;

use super::api::Api;

/// The tiers with what they cost.
const TIERS: [(&str, u32); 3] = [("light", 1), ("deep", 3), ("xray", 5)];
const POLL: Duration = Duration::from_millis(60);

pub(crate) async fn demo(info: &StackInfo, handle: &str) -> Result<()> {
    let http = super::http()?;
    let credits = TIERS.iter().map(|(_, credits)| credits).sum();
    let demo = local::create_account(&http, info, credits).await?;
    let api = Api { http: &http, info, demo: &demo };
    println!("A new account with {credits} credits analyses @{handle} in each tier.\n");
    for (tier, _) in TIERS {
        let run = api.start(handle, tier).await?;
        let progress = watch(&api, &run, tier).await?;
        steps(&progress);
        if progress["status"] != "complete" && progress["status"] != "completed" {
            bail!("{tier} ended as {}: {}", progress["status"], progress["error"]);
        }
        outcome(&api.result(&run).await?);
    }
    println!("{}", style("Ledger").bold());
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

/// Shows the progress until the run has ended, and answers the last one.
async fn watch(api: &Api<'_>, run: &str, tier: &str) -> Result<Value> {
    let bar = ProgressBar::new(100);
    bar.set_style(ProgressStyle::with_template("{prefix:>5} {bar:30.cyan/dim} {percent:>3}% {msg}")?);
    bar.set_prefix(tier.to_owned());
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
            bail!("run {run} does not end");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn steps(progress: &Value) {
    println!(
        "{} run {}",
        style(progress["analysis_type"].as_str().unwrap_or_default()).bold(),
        progress["run_id"].as_str().unwrap_or_default()
    );
    for step in progress["steps"].as_array().into_iter().flatten() {
        let time = step["duration_ms"]
            .as_f64()
            .map_or_else(|| step["status"].as_str().unwrap_or_default().to_owned(), |time| format!("{time:.1} ms"));
        println!("  {:>2} {:<28} {time:>12}", step["number"].as_u64().unwrap_or_default(), step["label"].as_str().unwrap_or_default());
    }
}

fn outcome(result: &Value) {
    let score = |name: &str| result[name].as_i64().map_or_else(|| "-".to_owned(), |score| score.to_string());
    println!(
        "  {}",
        style(format!(
            "score {}, niche fit {}, engagement {}",
            score("overall_score"),
            score("niche_fit_score"),
            score("engagement_score")
        ))
        .green()
    );
    if let Some(summary) = result["summary_text"].as_str() {
        println!("  {summary}");
    }
    println!("  {}\n", cost(result).unwrap_or_default());
}

fn cost(result: &Value) -> Option<String> {
    let micro_usd = result["actual_cost_micro_usd"].as_i64()?;
    let credits = result["credits_charged"].as_i64()?;
    Some(format!("charged {credits} credits, cost {}.{:06} USD", micro_usd / 1_000_000, micro_usd % 1_000_000))
}
