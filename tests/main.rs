//! Oslira's integration tests: the real template deployed on a local stack of its own, the real binaries, real PostgreSQL.
//!
//! `cargo test --workspace --test oslira` starts the stack, runs every test on it and stops it. A part of a test's name selects tests.
//! After each test ledger and balances are checked. At the end every log line is checked: it contains no secret and names its request.

#![allow(
    clippy::unused_async,
    clippy::unused_self,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod analysis;
mod billing;
mod bulk;
mod business_profiles;
mod cache;
mod credits;
mod deployment;
mod events;
mod harness;
mod health;
mod isolation;
mod leads;
mod ledger;
mod ledger_machine;
mod live;
mod load;
mod migrations;
mod observability;
mod pages;
mod payloads;
mod pooler;
mod privileges;
mod responses;
mod roles;
mod rotation;
mod sandbox;
mod schedules;
mod sentry;
mod signup;
mod template;
mod workflow;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness::{StackTest, World, registered_tests};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::sync::RwLock;

/// The number of concurrent tests unless `--test-threads` sets another. Tests wait most of their time.
const THREADS: usize = 6;
/// The number of tests that are listed as the slowest.
const SLOWEST: usize = 10;

/// The durations of the tests that have ended.
static DURATIONS: Mutex<Vec<(Duration, &str)>> = Mutex::new(Vec::new());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().expect("a runtime");
    let tests = registered_tests();
    if arguments.list || !tests.iter().any(|test| is_selected(&arguments, test.name)) {
        libtest_mimic::run(&arguments, tests.iter().map(|test| Trial::test(test.name, || Ok(()))).collect()).exit();
    }
    let world = match runtime.block_on(World::start()) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the stack did not start: {error:#}");
            std::process::exit(1);
        }
    };
    // Tests that disturb all others, such as a restart of the database or a killed function, run alone.
    let exclusion = Arc::new(RwLock::new(()));
    let trials = tests.into_iter().map(|test| {
        let (world, exclusion, handle) = (world.clone(), exclusion.clone(), runtime.handle().clone());
        Trial::test(test.name, move || handle.block_on(run(test, world, exclusion)))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    print_slowest();
    world.contract.write_examples();
    let logged = runtime.block_on(world.stack.log_lines(None)).expect("the functions' logs");
    let leaks = runtime.block_on(world.leaks(&logged));
    for leak in &leaks {
        eprintln!("a log line contains a secret: {leak}");
    }
    let orphans = world.orphaned_lines(&logged);
    for orphan in &orphans {
        eprintln!("a log line does not name its request, run or account: {orphan}");
    }
    if let Some(world) = Arc::into_inner(world) {
        runtime.block_on(world.stop());
    }
    if !leaks.is_empty() || !orphans.is_empty() {
        std::process::exit(101);
    }
    conclusion.exit();
}

fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let Some(filter) = &arguments.filter else { return true };
    if arguments.exact { name == filter } else { name.contains(filter.as_str()) }
}

/// Prints the slowest tests, the first place to look when the suite becomes slow.
fn print_slowest() {
    let mut durations = DURATIONS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    durations.sort_unstable_by(|one, other| other.cmp(one));
    println!("\nslowest tests:");
    for (duration, name) in durations.iter().take(SLOWEST) {
        println!("{:8.1} s  {name}", duration.as_secs_f64());
    }
}

/// Runs a test and then checks ledger and balances.
async fn run(test: StackTest, world: Arc<World>, exclusion: Arc<RwLock<()>>) -> Result<(), Failed> {
    let (_shared, _alone) = if test.alone { (None, Some(exclusion.write().await)) } else { (Some(exclusion.read().await), None) };
    let (begun, started) = (jiff::Timestamp::now(), Instant::now());
    // A task of its own turns a panic into an error.
    let outcome = tokio::spawn((test.run)(world.clone())).await;
    DURATIONS.lock().unwrap_or_else(PoisonError::into_inner).push((started.elapsed(), test.name));
    if let Err(error) = outcome {
        let payload = error.into_panic();
        let message = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()));
        // Only the functions' logs have the causes, and they are removed with the stack.
        let errors = world.errors_since(begun).await.join("\n");
        return Err(format!("{}\n\nerrors in the functions' logs during the test:\n{errors}", message.unwrap_or_default()).into());
    }
    let faults = world.ledger_faults().await;
    if faults.is_empty() { Ok(()) } else { Err(format!("ledger and balances are inconsistent: {faults:?}").into()) }
}
