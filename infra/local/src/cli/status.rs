//! `cargo local status`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use console::style;

pub(crate) async fn status(state_dir: &Path) -> Result<()> {
    let Some(owner) = local::owner(state_dir) else {
        println!("No stack is running: start one with `cargo local`.");
        return Ok(());
    };
    let Some(info) = local::info_of(state_dir) else {
        println!("A stack is starting (process {owner}).");
        return Ok(());
    };
    let http = super::http()?;
    let status = async |url: String| {
        let answer = http.get(url).timeout(Duration::from_secs(5)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) { style("up").green() } else { style("down").red() }
    };
    let database = if local::database_responds(&info.admin_database_url).await { style("up").green() } else { style("down").red() };
    println!("process      {owner}");
    println!("API          {} {}", status(format!("{}/health", info.api)).await, info.api);
    println!("AWS          {} {}", status(format!("{}/_ministack/health", info.aws_endpoint)).await, info.aws_endpoint);
    println!("vendors      {} {}", status(format!("{}/health", info.sandbox)).await, info.sandbox);
    println!("PostgreSQL   {database} {}", info.admin_database_url);
    println!("functions    {}", local::functions_of(state_dir).into_keys().collect::<Vec<_>>().join(" "));
    println!("demo account {} (business profile {})", info.demo.account_id, info.demo.business_profile_id);
    Ok(())
}
