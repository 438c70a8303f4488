//! The ledger as a state machine: any order of grants, purchases, charges, refunds, cancellations, completions and chargebacks, each
//! repeated with the same keys, asked of PostgreSQL and of a model of a page. After every step both must say the same.
//!
//! A failure is written into `regressions.txt` beside this file by its seed, and tried first from then on. `PROPTEST_CASES` asks for more.

mod database;
mod model;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use crate::harness::{World, stack_test};
use database::{Desk, Names, OPENING, Seen};
use model::{Answer, Books, Operation};

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ledger_machine/regressions.txt");

#[stack_test]
async fn any_order_of_operations_keeps_the_books(world: Arc<World>) {
    let url = world.fresh_database("ledger_machine").await;
    let runtime = tokio::runtime::Handle::current();
    // Proptest runs its cases on a thread of its own, one after the other.
    let cases = tokio::task::spawn_blocking(move || {
        let (owner, desk) = runtime.block_on(async { (crate::harness::connect(&url).await.unwrap(), Desk::open(&url).await) });
        let mut config = Config { failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))), ..Config::default() };
        if std::env::var_os("PROPTEST_CASES").is_none() {
            config.cases = 96;
        }
        TestRunner::new(config).run(&Books::sequential_strategy(1..50), |(mut books, operations, seen)| {
            let names = runtime.block_on(Names::sign_up(&owner));
            for operation in operations {
                if let Some(seen) = &seen {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                books = Books::apply(books, &operation);
                let answer = runtime.block_on(desk.perform(&names, &operation));
                proptest::prop_assert_eq!(Some(&answer), books.answer.as_ref(), "{:?}", operation);
                proptest::prop_assert_eq!(runtime.block_on(Seen::of(&owner, &names)), Seen::expected(&books), "after {:?}", operation);
            }
            Ok::<(), TestCaseError>(())
        })
    });
    if let Err(error) = cases.await.unwrap() {
        panic!("{error}\nits seed is in {REGRESSIONS}");
    }
}

/// How many ask at once, how much each of them, and how often.
const DESKS: usize = 4;
const OPERATIONS: usize = 4;
const ROUNDS: u8 = 120;

#[stack_test]
async fn what_many_ask_at_once_is_explained_by_some_order(world: Arc<World>) {
    let url = world.fresh_database("ledger_crowd").await;
    let owner = crate::harness::connect(&url).await.unwrap();
    let desks = join_all((0..DESKS).map(|_| Desk::open(&url))).await;
    let seed = uuid::Uuid::new_v4();
    let mut names = Names::sign_up(&owner).await;
    let mut balances = OPENING;
    for round in 0..ROUNDS {
        let asked = dealt(seed, round);
        let answers = join_all(desks.iter().zip(&asked).map(async |(desk, operations)| {
            let mut answers = Vec::new();
            for operation in operations {
                answers.push(desk.perform(&names, operation).await);
            }
            answers
        }))
        .await;
        let end = Seen::of(&owner, &names).await;
        let explained = explain(&Books::of(balances), [0; DESKS], &asked, &answers, &end);
        assert!(
            explained,
            "round {round} of seed {seed}: no order explains {asked:#?}\nanswered {answers:#?}\nfrom {balances:?} to {end:#?}"
        );
        balances = end.balances;
        names = names.another_case();
    }
}

/// What each asks in a round.
fn dealt(seed: uuid::Uuid, round: u8) -> Vec<Vec<Operation>> {
    let mut bytes = [round; 32];
    bytes[..16].copy_from_slice(seed.as_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let hands = proptest::collection::vec(proptest::collection::vec(model::operation(), OPERATIONS), DESKS);
    hands.new_tree(&mut runner).unwrap().current()
}

/// Whether the operations, each desk's in its order, can be put into one order in which the model answers all that was answered and
/// ends where the database did. `done` counts what is placed of each desk's.
fn explain(books: &Books, done: [usize; DESKS], asked: &[Vec<Operation>], answers: &[Vec<Answer>], end: &Seen) -> bool {
    if done.iter().zip(asked).all(|(done, operations)| *done == operations.len()) {
        return Seen::expected(books) == *end;
    }
    (0..DESKS).filter(|desk| done[*desk] < asked[*desk].len()).any(|desk| {
        let (mut after, mut done) = (books.clone(), done);
        let next = done[desk];
        done[desk] += 1;
        let (operation, answer) = (&asked[desk][next], &answers[desk][next]);
        let expected = after.perform(operation);
        (expected == *answer || books.may_be_taken_as_duplicate(operation, answer)) && explain(&after, done, asked, answers, end)
    })
}
