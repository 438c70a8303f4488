//! The ledger as a state machine: any order of grants, purchases, charges, refunds, cancellations, completions, chargebacks, refunds at Stripe
//! that fail, and disputes, each repeated with the same keys, executed in PostgreSQL and in a small model. After every step both must be in the same state.
//!
//! The seed of a failure is written to `regressions.txt` beside this file and executed first from then on. `PROPTEST_CASES` sets the number
//! of cases.

mod database;
mod model;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use crate::harness::{World, stack_test};
use database::{Names, OPENING, Sessions, State};
use model::{Model, Operation, Outcome};

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ledger_machine/regressions.txt");

#[stack_test]
async fn any_order_of_operations_matches_the_model(world: Arc<World>) {
    let url = world.fresh_database("ledger_machine").await;
    let runtime = tokio::runtime::Handle::current();
    // Proptest runs its cases one after the other, on a blocking thread.
    let cases = tokio::task::spawn_blocking(move || {
        let (owner, session) = runtime.block_on(async { (crate::harness::connect(&url).await.unwrap(), Sessions::open(&url).await) });
        let mut config = Config { failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))), ..Config::default() };
        if std::env::var_os("PROPTEST_CASES").is_none() {
            config.cases = 96;
        }
        TestRunner::new(config).run(&Model::sequential_strategy(1..50), |(mut model, operations, seen)| {
            let names = runtime.block_on(Names::sign_up(&owner));
            for operation in operations {
                if let Some(seen) = &seen {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                model = Model::apply(model, &operation);
                let outcome = runtime.block_on(session.execute(&names, &operation));
                proptest::prop_assert_eq!(Some(&outcome), model.outcome.as_ref(), "{:?}", operation);
                proptest::prop_assert_eq!(runtime.block_on(State::of(&owner, &names)), State::expected(&model), "after {:?}", operation);
            }
            Ok::<(), TestCaseError>(())
        })
    });
    if let Err(error) = cases.await.unwrap() {
        panic!("{error}\nits seed is in {REGRESSIONS}");
    }
}

/// How many sessions execute operations at once, how many each, and how often.
const SESSION_COUNT: usize = 4;
const OPERATIONS: usize = 4;
const ROUNDS: u8 = 120;

#[stack_test]
async fn concurrent_operations_are_explained_by_some_order(world: Arc<World>) {
    let url = world.fresh_database("ledger_crowd").await;
    let owner = crate::harness::connect(&url).await.unwrap();
    let sessions = join_all((0..SESSION_COUNT).map(|_| Sessions::open(&url))).await;
    let seed = uuid::Uuid::new_v4();
    let mut names = Names::sign_up(&owner).await;
    let (mut balances, mut shortfalls) = (OPENING, [0; OPENING.len()]);
    for round in 0..ROUNDS {
        let operations = generate(seed, round);
        let outcomes = join_all(sessions.iter().zip(&operations).map(async |(session, operations)| {
            let mut outcomes = Vec::new();
            for operation in operations {
                outcomes.push(session.execute(&names, operation).await);
            }
            outcomes
        }))
        .await;
        let end = State::of(&owner, &names).await;
        let explained = explain(&Model::of(balances, shortfalls), [0; SESSION_COUNT], &operations, &outcomes, &end);
        assert!(
            explained,
            "round {round} of seed {seed}: no order explains {operations:#?}\nwith the outcomes {outcomes:#?}\nfrom {balances:?} and {shortfalls:?} to {end:#?}"
        );
        (balances, shortfalls) = (end.balances, end.shortfalls);
        // An open dispute would suspend the accounts in every further case.
        names = if end.suspended.contains(&true) { Names::sign_up(&owner).await } else { names.another_case() };
        if end.suspended.contains(&true) {
            (balances, shortfalls) = (OPENING, [0; OPENING.len()]);
        }
    }
}

/// Returns the operations of each session in a round.
fn generate(seed: uuid::Uuid, round: u8) -> Vec<Vec<Operation>> {
    let mut bytes = [round; 32];
    bytes[..16].copy_from_slice(seed.as_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let sessions = proptest::collection::vec(proptest::collection::vec(model::operation(), OPERATIONS), SESSION_COUNT);
    sessions.new_tree(&mut runner).unwrap().current()
}

/// Whether one order of all operations, which keeps each session's own, gives the same outcomes in the model and ends in the database's
/// state. `done` counts the operations of each session that are placed.
fn explain(model: &Model, done: [usize; SESSION_COUNT], operations: &[Vec<Operation>], outcomes: &[Vec<Outcome>], end: &State) -> bool {
    if done.iter().zip(operations).all(|(done, operations)| *done == operations.len()) {
        return State::expected(model) == *end;
    }
    (0..SESSION_COUNT).filter(|session| done[*session] < operations[*session].len()).any(|session| {
        let (mut after, mut done) = (model.clone(), done);
        let next = done[session];
        done[session] += 1;
        let (operation, outcome) = (&operations[session][next], &outcomes[session][next]);
        let expected = after.execute(operation);
        (expected == *outcome || model.may_report_duplicates(operation, outcome)) && explain(&after, done, operations, outcomes, end)
    })
}
