//! The harness: the stack, accounts, and the requests, vendors, queues and databases that tests use.

mod account;
mod api;
mod contract;
mod database;
mod functions;
mod logs;
mod profile_cache;
mod queues;
mod random;
mod registry;
mod sandbox;
mod stripe;
mod workflow;
mod world;

use std::time::{Duration, Instant};

pub use account::{Account, Ended};
pub use api::Answer;
pub use contract::Contract;
pub use database::{connect, migration_files};
pub use oslira_tests_macros::stack_test;
pub use profile_cache::profile_cache_key;
pub use queues::Queue;
pub use random::Random;
pub use registry::{StackTest, registered_tests};
pub use serde_json::{Value, json};
pub use world::World;

/// Polls until there is a value, less and less often, so that a hundred tasks that wait do not load the system that they wait for.
///
/// # Panics
/// Fails the test when there is no value within `timeout`. `what` names what was expected.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, timeout: Duration, mut poll: impl FnMut() -> F) -> T {
    let (started, mut pause) = (Instant::now(), Duration::from_millis(20));
    loop {
        if let Some(value) = poll().await {
            return value;
        }
        assert!(started.elapsed() < timeout, "waited {timeout:?} for {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
    }
}
