//! The commands.

mod api;
mod bench;
mod billing;
mod bulk;
mod coverage;
mod demo;
mod logs;
mod schedule;
mod schemathesis;
mod soak;
mod status;
mod stop;
mod up;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use local::StackInfo;

/// The whole backend on this machine: PostgreSQL, the AWS emulator with template.yaml deployed, and stand-ins for the vendors.
///
/// Without a command: builds and starts everything and stays until Ctrl-C.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local")]
pub(crate) struct Arguments {
    /// Use the real vendors whose keys the environment holds: `APIFY_TOKEN`, `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `STRIPE_API_KEY`
    #[arg(long)]
    live: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start everything and stay until Ctrl-C (the default)
    Up,
    /// Show the product at work: `analysis` runs one profile in each tier, `billing` buys credits
    Demo {
        /// What to show
        #[arg(value_enum, default_value_t = Show::Analysis)]
        show: Show,
        /// The Instagram handle; the same handle always gives the same profile
        #[arg(long, default_value = "nordic.trail.club")]
        handle: String,
    },
    /// Analyse many profiles at once, in a table that fills while they are
    Bulk {
        /// Instagram handles, or files with one a line; at most a hundred
        #[arg(required = true)]
        handles: Vec<String>,
        /// How deep: light, deep or xray
        #[arg(long, default_value = "light")]
        tier: String,
        /// The credits that the account starts with
        #[arg(long, default_value_t = 500)]
        credits: u32,
    },
    /// Make a new account with a business profile and print its token
    Token {
        /// The credits that it starts with
        #[arg(long, default_value_t = 25)]
        credits: u32,
    },
    /// Run one of the schedules now and print its summary
    Schedule {
        /// Which
        #[arg(value_enum)]
        name: schedule::Schedule,
        /// Count what it would do and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the tests on instrumented binaries and print which share of the lines they ran, by group
    Coverage {
        /// Name every line that no test runs
        #[arg(long)]
        missing: bool,
        /// Add to what earlier runs counted
        #[arg(long)]
        add: bool,
        /// Arguments for `cargo test`, such as `-p oslira-domain`
        #[arg(last = true)]
        tests: Vec<String>,
    },
    /// Ask the running stack whatever its API document allows and forbids, as two tenants who try each other's ids
    Schemathesis {
        /// How many requests at least
        #[arg(long, default_value_t = 5000)]
        cases: usize,
        /// Make the requests of an earlier run again
        #[arg(long)]
        seed: Option<u64>,
        /// A document from a file instead of the one that the stack serves
        #[arg(long)]
        document: Option<PathBuf>,
        /// Ask with the other's tokens: proves that a tenant who is mistaken for the other would be found
        #[arg(long)]
        mistaken: bool,
    },
    /// Keep the running stack under a mixed load, with vendors that fail and functions that are killed, and judge what time does to it
    Soak {
        /// For how long
        #[arg(long, default_value_t = 30)]
        minutes: u64,
    },
    /// Measure what the product does, each beside the least that it could take, on a stack of its own
    Bench(bench::Settings),
    /// Show what runs and where
    Status,
    /// Print what a function wrote, such as `start_analysis`
    Logs {
        /// The function's binary; without one, all of them
        function: Option<String>,
        /// Go on until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Look over the template and the state machine with AWS SAM, cfn-lint and statelint (downloads them, 350 MB, once)
    Check,
    /// End the running stack
    Stop,
    /// Throw away the stopped stack's database
    Reset,
}

#[derive(Clone, Copy, ValueEnum)]
enum Show {
    /// One analysis of each tier, with steps, results, cost and ledger
    Analysis,
    /// A purchase, from the checkout to the balance
    Billing,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = checkout()?;
    let state_dir = root.join(".local");
    match arguments.command.unwrap_or(Command::Up) {
        Command::Up => up::up(root, state_dir, arguments.live).await,
        _ if arguments.live => bail!("--live belongs to `cargo local` alone: the other commands use the stack that it started"),
        Command::Demo { show: Show::Analysis, handle } => demo::demo(&running(&state_dir)?, &handle).await,
        Command::Demo { show: Show::Billing, .. } => billing::billing(&running(&state_dir)?).await,
        Command::Bulk { handles, tier, credits } => bulk::bulk(&running(&state_dir)?, &handles, &tier, credits).await,
        Command::Token { credits } => {
            let demo = local::create_account(&http()?, &running(&state_dir)?, credits).await?;
            println!("{}", serde_json::to_string_pretty(&demo)?);
            Ok(())
        }
        Command::Schedule { name, dry_run } => schedule::schedule(&running(&state_dir)?, &state_dir, name, dry_run).await,
        Command::Coverage { missing, add, tests } => coverage::coverage(&root, &coverage::Wanted { tests, missing, add }).await,
        Command::Schemathesis { cases, seed, document, mistaken } => {
            let wanted = schemathesis::Wanted { cases, seed, document, mistaken };
            schemathesis::schemathesis(&root, &running(&state_dir)?, &wanted).await
        }
        Command::Soak { minutes } => soak::soak(&running(&state_dir)?, &state_dir, minutes).await,
        Command::Bench(settings) => bench::bench(root, &settings).await,
        Command::Status => status::status(&state_dir).await,
        Command::Logs { function, follow } => logs::logs(&state_dir, function.as_deref(), follow).await,
        Command::Check => {
            if local::check::check(&root).await? {
                return Ok(());
            }
            bail!("see above")
        }
        Command::Stop => stop::stop(&state_dir),
        Command::Reset => stop::reset(&state_dir),
    }
}

/// The checkout that the current directory is in, else the one that this binary was built from.
fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = here.ancestors().find(|directory| directory.join("template.yaml").exists() && directory.join("infra/local").exists());
    found.unwrap_or(&built_from).canonicalize().context("the checkout is gone")
}

/// What the running stack tells about itself.
fn running(state_dir: &Path) -> Result<StackInfo> {
    match (local::owner(state_dir), local::info_of(state_dir)) {
        (Some(_), Some(info)) => Ok(info),
        (Some(_), None) => bail!("the stack is still starting: try again when `cargo local` says that it is ready"),
        (None, _) => bail!("no stack is running: start one with `cargo local`"),
    }
}

/// A client that ignores proxies: everything it talks to is on this machine.
fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
