//! `cargo local`: starts the stack, prints how to use it, and waits.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use console::style;
use local::{Live, Options, Stack, StackInfo};
use tokio::signal::unix::{SignalKind, signal};

/// The preferred port. Fixed, so that the address is the same after every start.
const PORT: u16 = 4566;

pub(crate) async fn up(root: PathBuf, state_dir: PathBuf, live: bool) -> Result<()> {
    let live = live.then(|| Live::read(|name| std::env::var(name).ok())).transpose()?;
    if let Some(owner) = local::owner(&state_dir) {
        match local::info_of(&state_dir) {
            Some(info) => println!("A stack is already running (process {owner}): {}", info.api),
            None => println!("A stack is already starting (process {owner})."),
        }
        return Ok(());
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut end_requested = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let begun = Instant::now();
    let mut options = Options::new(root, &state_dir);
    options.fixed_port = Some(PORT);
    options.fresh = false;
    options.database_url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    options.progress = true;
    options.live = live.clone();
    let stack = tokio::select! {
        stack = Stack::start(options) => stack?,
        // Dropping the future ends the processes that were started.
        () = end_requested() => return Ok(()),
    };
    ready(stack.info(), stack.state_dir(), begun);
    if let Some(live) = live {
        println!("\nLive mode:\n{live}");
    }
    end_requested().await;
    eprintln!("\nStopping …");
    stack.stop().await;
    Ok(())
}

fn ready(info: &StackInfo, state_dir: &Path, begun: Instant) {
    let time = format!("{:.1} s", begun.elapsed().as_secs_f64());
    println!("\n{} in {time}: {}\n", style("Ready").green().bold(), style(&info.api).bold());
    println!("Token of the demo account ({}):\n{}\n", info.demo.account_id, info.demo.token);
    println!("Try:\n{}\n", request(info));
    println!("{}", style(format!("Addresses and accounts: {}", state_dir.join("stack.json").display())).dim());
    println!("{}", style("In another terminal: cargo local demo | token --credits N | status | logs <function> | stop").dim());
    println!("{}", style("Ctrl-C stops it.").dim());
}

/// Returns a request for a shell.
fn request(info: &StackInfo) -> String {
    let body = format!(
        r#"{{"username": "nordic.trail.club", "businessProfileId": "{}", "analysisType": "light"}}"#,
        info.demo.business_profile_id
    );
    format!(
        "curl -X POST '{}/api/leads/analyze' \\\n  -H 'authorization: Bearer {}' \\\n  -H 'content-type: application/json' \\\n  -d '{body}'",
        info.api, info.demo.token
    )
}
