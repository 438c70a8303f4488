//! `cargo local`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let begun = std::time::Instant::now();
    let mut options = local::Options::new(std::env::var("OSLIRA_ROOT").map(Into::into).unwrap_or(root), ".local");
    options.progress = true;
    let stack = local::Stack::start(options).await?;
    println!("{} {:?} {:?}", serde_json::to_string_pretty(stack.info())?, begun.elapsed(), stack.routes());
    tokio::signal::ctrl_c().await?;
    stack.stop().await;
    Ok(())
}
