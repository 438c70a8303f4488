//! Oslira's integration tests: the real template deployed on a local stack of its own, the real binaries, real PostgreSQL.
//!
//! `cargo test --workspace --test oslira` starts the stack, runs every test on it and ends it; a part of a test's name runs only those.
//! After each test the books are asked whether they are true, and at the end every log line whether it told a secret, and whose it is.

#![allow(
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
mod pooler;
mod privileges;
mod roles;
mod rotation;
mod sandbox;
mod schedules;
mod sentry;
mod signup;
mod template;
mod workflow;

use std::sync::Arc;

use harness::{Case, World};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::sync::RwLock;

/// How many tests run at once unless `--test-threads` says otherwise: they wait far more than they work.
const THREADS: usize = 6;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().expect("a runtime");
    let cases: Vec<Case> = [
        health::cases(),
        deployment::cases(),
        template::cases(),
        events::cases(),
        ledger::cases(),
        ledger_machine::cases(),
        signup::cases(),
        pooler::cases(),
        privileges::cases(),
        roles::cases(),
        sandbox::cases(),
        isolation::cases(),
        leads::cases(),
        analysis::cases(),
        business_profiles::cases(),
        credits::cases(),
        billing::cases(),
        bulk::cases(),
        cache::cases(),
        schedules::cases(),
        sentry::cases(),
        observability::cases(),
        workflow::cases(),
        migrations::cases(),
        rotation::cases(),
        live::cases(),
        load::cases(),
    ]
    .concat();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    if arguments.list || !names.iter().any(|name| wanted(&arguments, name)) {
        libtest_mimic::run(&arguments, cases.iter().map(|case| Trial::test(case.name, || Ok(()))).collect()).exit();
    }
    let world = match runtime.block_on(World::start()) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            eprintln!("the stack did not start: {error:#}");
            std::process::exit(1);
        }
    };
    // Tests that disturb everybody (a database restart, killed functions) run alone.
    let quiet = Arc::new(RwLock::new(()));
    let trials = cases.into_iter().map(|case| {
        let (world, quiet, handle) = (world.clone(), quiet.clone(), runtime.handle().clone());
        Trial::test(case.name, move || handle.block_on(judge(case, world, quiet)))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    world.contract.write_examples();
    let logged = runtime.block_on(world.stack.log_lines(None)).expect("the functions' logs");
    let leaks = runtime.block_on(world.leaks(&logged));
    for leak in &leaks {
        eprintln!("a log line tells too much: {leak}");
    }
    let orphans = world.orphaned_lines(&logged);
    for orphan in &orphans {
        eprintln!("a log line does not tell whose it is: {orphan}");
    }
    if let Some(world) = Arc::into_inner(world) {
        runtime.block_on(world.stop());
    }
    if !leaks.is_empty() || !orphans.is_empty() {
        std::process::exit(101);
    }
    conclusion.exit();
}

fn wanted(arguments: &Arguments, name: &str) -> bool {
    let Some(filter) = &arguments.filter else { return true };
    if arguments.exact { name == filter } else { name.contains(filter.as_str()) }
}

/// Runs a test and asks afterwards whether the books are true.
async fn judge(case: Case, world: Arc<World>, quiet: Arc<RwLock<()>>) -> Result<(), Failed> {
    let (_shared, _alone) = if case.alone { (None, Some(quiet.write().await)) } else { (Some(quiet.read().await), None) };
    let begun = jiff::Timestamp::now();
    // A task of its own: a panic is caught there and becomes a failure here.
    if let Err(error) = tokio::spawn((case.run)(world.clone())).await {
        let payload = error.into_panic();
        let message = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()));
        // Causes stand in the functions' logs alone, which end with the stack.
        let errors = world.errors_since(begun).await.join("\n");
        return Err(format!("{}\n\nerrors in the functions' logs meanwhile:\n{errors}", message.unwrap_or_default()).into());
    }
    let faults = world.ledger_faults().await;
    if faults.is_empty() { Ok(()) } else { Err(format!("the books are not true: {faults:?}").into()) }
}
