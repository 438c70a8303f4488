//! Panics, which end one invocation's work and nothing else.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// What a caught panic is to whoever waits: an error of ours. Where and why it happened is in the line before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("panicked")
    }
}

impl std::error::Error for Panicked {}

/// The output of `work`, or that it panicked: adapters answer, count and report that as they do any defect. Left to the runtime, an endpoint
/// would answer out of its envelope, and one message would take all of its batch down with it.
///
/// What the work shares with other invocations has to bear being left in the middle, as it has to when a deadline drops the work.
///
/// # Errors
/// [`Panicked`]; the hook of [`crate::init`] has told why.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let empty: Vec<u8> = Vec::new();
        let outcome = caught(async {
            tokio::task::yield_now().await;
            empty[0]
        });
        assert_eq!(outcome.await, Err(Panicked));
    }
}
