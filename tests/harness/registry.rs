//! The registry of tests, which `#[stack_test]` fills.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::World;

/// A test that runs on the stack.
#[derive(Clone, Copy)]
pub struct StackTest {
    /// The module's path and the function's name.
    pub name: &'static str,
    /// Whether no other test may run at the same time.
    pub alone: bool,
    pub run: fn(Arc<World>) -> BoxFuture<'static, ()>,
}

inventory::collect!(StackTest);

/// Returns every test of this binary, those that run alone last: a test that runs alone waits for all others to end.
pub fn registered_tests() -> Vec<StackTest> {
    let mut tests: Vec<StackTest> = inventory::iter::<StackTest>().copied().collect();
    tests.sort_unstable_by_key(|test| (test.alone, test.name));
    tests
}
