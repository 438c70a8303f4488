//! The commands.

mod api;
mod bench;
mod billing;
mod bulk;
mod coverage;
mod demo;
mod eval;
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
    /// Run a demonstration: `analysis` analyzes one profile in each tier, `billing` buys credits
    Demo {
        /// The demonstration to run
        #[arg(value_enum, default_value_t = Show::Analysis)]
        show: Show,
        /// The Instagram handle; the same handle always gives the same profile
        #[arg(long, default_value = "nordic.trail.club")]
        handle: String,
    },
    /// Analyze many profiles in one batch and show a table of their progress
    Bulk {
        /// Instagram handles, or files with one handle a line; at most a hundred handles
        #[arg(required = true)]
        handles: Vec<String>,
        /// The tier: light, deep or xray
        #[arg(long, default_value = "light")]
        tier: String,
        /// The credits that the account starts with
        #[arg(long, default_value_t = 500)]
        credits: u32,
    },
    /// Create an account with a business profile and print its token
    Token {
        /// The credits that the account starts with
        #[arg(long, default_value_t = 25)]
        credits: u32,
    },
    /// Invoke a schedule and print its summary
    Schedule {
        /// The schedule to invoke
        #[arg(value_enum)]
        name: schedule::Schedule,
        /// Only count, without changes
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the tests on instrumented binaries and print the coverage of lines by group
    Coverage {
        /// Print every line that no test runs
        #[arg(long)]
        missing: bool,
        /// Add to the counts of earlier runs
        #[arg(long)]
        add: bool,
        /// Arguments for `cargo test`, such as `-p oslira-domain`
        #[arg(last = true)]
        tests: Vec<String>,
    },
    /// Test the running stack with requests generated from the API's document, as two tenants who try each other's ids
    Schemathesis {
        /// The minimum number of requests
        #[arg(long, default_value_t = 5000)]
        cases: usize,
        /// The seed of an earlier run, to repeat its requests
        #[arg(long)]
        seed: Option<u64>,
        /// A document from a file instead of the one that the stack serves
        #[arg(long)]
        document: Option<PathBuf>,
        /// Use the other tenant's tokens: verifies that the test detects a tenant who is mistaken for the other
        #[arg(long)]
        mistaken: bool,
    },
    /// Put a mixed load on the running stack while vendors fail and functions are killed, then check ledgers, memory and responses
    Soak {
        /// The duration in minutes
        #[arg(long, default_value_t = 30)]
        minutes: u64,
    },
    /// Measure the product on a stack of its own, each value beside its lower bound
    Bench(bench::Settings),
    /// Judge the models of a catalogue on invented profiles, without the stack; exits with 1 if they miss a gate
    Eval(eval::Settings),
    /// Show the processes of the running stack and their addresses
    Status,
    /// Print the log lines of a function, such as `start_analysis`
    Logs {
        /// The name of the function's binary; without it, the lines of all functions
        function: Option<String>,
        /// Follow new lines until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Validate the template and the state machine with AWS SAM, cfn-lint and statelint (downloads them once, 350 MB)
    Check,
    /// Stop the running stack
    Stop,
    /// Delete the database of the stopped stack
    Reset,
}

#[derive(Clone, Copy, ValueEnum)]
enum Show {
    /// One analysis of each tier, with steps, results, cost and ledger
    Analysis,
    /// A purchase from the checkout to the balance
    Billing,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let root = checkout()?;
    let state_dir = root.join(".local");
    match arguments.command.unwrap_or(Command::Up) {
        Command::Up => up::up(root, state_dir, arguments.live).await,
        _ if arguments.live => {
            bail!("--live is an option of `cargo local` without a command: the other commands use the stack that it has started")
        }
        Command::Demo { show: Show::Analysis, handle } => demo::demo(&running(&state_dir)?, &handle).await,
        Command::Demo { show: Show::Billing, .. } => billing::billing(&running(&state_dir)?).await,
        Command::Bulk { handles, tier, credits } => bulk::bulk(&running(&state_dir)?, &handles, &tier, credits).await,
        Command::Token { credits } => {
            let demo = local::create_account(&http()?, &running(&state_dir)?, credits).await?;
            println!("{}", serde_json::to_string_pretty(&demo)?);
            Ok(())
        }
        Command::Schedule { name, dry_run } => schedule::schedule(&running(&state_dir)?, &state_dir, name, dry_run).await,
        Command::Coverage { missing, add, tests } => coverage::coverage(&root, &coverage::Options { tests, missing, add }).await,
        Command::Schemathesis { cases, seed, document, mistaken } => {
            let options = schemathesis::Options { cases, seed, document, mistaken };
            schemathesis::schemathesis(&root, &running(&state_dir)?, &options).await
        }
        Command::Soak { minutes } => soak::soak(&running(&state_dir)?, &state_dir, minutes).await,
        Command::Bench(settings) => bench::bench(root, &settings).await,
        Command::Eval(settings) => eval::eval(&root, &state_dir, &settings).await,
        Command::Status => status::status(&state_dir).await,
        Command::Logs { function, follow } => logs::logs(&state_dir, function.as_deref(), follow).await,
        Command::Check => {
            if local::check::check(&root).await? {
                return Ok(());
            }
            bail!("the template or the state machine is invalid: see above")
        }
        Command::Stop => stop::stop(&state_dir),
        Command::Reset => stop::reset(&state_dir),
    }
}

/// Returns the checkout of the current directory, or the one that this binary was built from.
fn checkout() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = here.ancestors().find(|directory| directory.join("template.yaml").exists() && directory.join("infra/local").exists());
    found.unwrap_or(&built_from).canonicalize().context("the checkout does not exist")
}

/// Returns the description of the running stack.
fn running(state_dir: &Path) -> Result<StackInfo> {
    match (local::owner(state_dir), local::info_of(state_dir)) {
        (Some(_), Some(info)) => Ok(info),
        (Some(_), None) => bail!("the stack is still starting: try again when `cargo local` has printed that it is ready"),
        (None, _) => bail!("no stack is running: start one with `cargo local`"),
    }
}

/// Returns a client that ignores proxies: all addresses are on this machine.
fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
