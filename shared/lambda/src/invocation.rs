//! One invocation: its identity and deadline, what happens around its work, and its end.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use lambda_runtime::Context;
use tracing::{Instrument, Span};

use crate::failure::{Failure, Panicked, Severity};

/// An event with the time that its handler has.
#[derive(Debug)]
pub struct Event<I> {
    /// What the function was invoked with.
    pub payload: I,
    /// When Lambda ends the invocation, whatever it is doing.
    pub deadline: Instant,
}

/// Opens the span of a unit of work: the identity of its invocation and the trigger's own fields.
#[macro_export]
macro_rules! invocation_span {
    ($name:literal, $invocation:expr $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(
            $name,
            requestId = $invocation.request_id,
            xray_trace_id = $invocation.xray_trace_id
            $(, $($fields)*)?
        )
    };
}

/// The identity and the deadline of an invocation.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The id in all its log lines.
    pub request_id: String,
    /// The X-Ray trace that it belongs to.
    pub xray_trace_id: Option<String>,
    /// When Lambda ends it, on this process's own clock.
    pub deadline: Instant,
}

impl From<&Context> for Invocation {
    fn from(context: &Context) -> Self {
        Self {
            request_id: context.request_id.clone(),
            xray_trace_id: context.xray_trace_id.clone(),
            deadline: deadline(context.deadline(), SystemTime::now(), Instant::now()),
        }
    }
}

/// Returns the deadline on the process's monotonic clock. A deadline that has passed becomes `now`.
fn deadline(deadline: SystemTime, wall_clock: SystemTime, now: Instant) -> Instant {
    now + deadline.duration_since(wall_clock).unwrap_or(Duration::ZERO)
}

impl Invocation {
    /// Runs the invocation's work in `span`, as [`Invocation::observe`] does, and then sends the invocation's errors to Sentry.
    ///
    /// # Errors
    /// The work's own, or that of its panic.
    pub async fn run<T, E: Failure>(
        &self,
        span: Span,
        properties: &[(&'static str, &str)],
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        flush_after(self.observe(span, properties, work), oslira_telemetry::send_errors()).await
    }

    /// Runs one unit of work in `span`: catches its panic, measures its duration, logs its outcome, and counts a defect under its code
    /// with `properties` and the id of the request.
    ///
    /// State that the work shares with other invocations must stay valid when a panic interrupts the work, as it must when a deadline drops it.
    ///
    /// # Errors
    /// The work's own, or that of its panic.
    pub async fn observe<T, E: Failure>(
        &self,
        span: Span,
        properties: &[(&'static str, &str)],
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        observe(span, work, |failure: &E| {
            let status = failure.status().map(|status| status.to_string());
            let mut all = vec![("requestId", self.request_id.as_str())];
            all.extend_from_slice(properties);
            all.extend(status.as_deref().map(|status| ("status", status)));
            oslira_telemetry::count_error(failure.code(), &all);
        })
        .await
    }
}

/// Runs the work of an invocation that observes its parts by itself, and then sends the invocation's errors to Sentry.
#[cfg(feature = "queue")]
pub(crate) async fn run_parts<T>(work: impl Future<Output = T>) -> T {
    flush_after(work, oslira_telemetry::send_errors()).await
}

/// Flushes last: the process may be frozen as soon as the outcome is returned.
async fn flush_after<T>(work: impl Future<Output = T>, flush: impl Future<Output = ()>) -> T {
    let outcome = work.await;
    flush.await;
    outcome
}

async fn observe<T, E: Failure>(span: Span, work: impl Future<Output = Result<T, E>>, count: impl FnOnce(&E)) -> Result<T, E> {
    async {
        let started = Instant::now();
        let outcome = catch_panic(work).await.unwrap_or_else(|panicked| Err(panicked.into()));
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(_) => tracing::info!(duration_ms, "completed"),
            Err(failure) => {
                let (code, error, status) = (failure.code(), failure.cause(), failure.status());
                match failure.severity() {
                    Severity::Expected => tracing::info!(duration_ms, status, code, error, "rejected"),
                    Severity::Retryable => tracing::warn!(duration_ms, status, code, error, "failed, may be retried"),
                    Severity::Defect => {
                        let at = failure.place().map(|place| format!("{}:{}", place.file(), place.line()));
                        tracing::error!(duration_ms, status, code, error, at, "failed");
                        count(failure);
                    }
                }
            }
        }
        outcome
    }
    .instrument(span)
    .await
}

/// Returns the output of `work`, or that it panicked. Left to the runtime, a panic of an endpoint would be a response outside of the
/// envelope, and one message's panic would fail its whole batch.
async fn catch_panic<F: Future>(work: F) -> Result<F::Output, Panicked> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum TestError {
        Expected,
        Retryable,
        Panicked,
    }

    impl From<Panicked> for TestError {
        fn from(_: Panicked) -> Self {
            Self::Panicked
        }
    }

    impl Failure for TestError {
        fn severity(&self) -> Severity {
            match self {
                Self::Expected => Severity::Expected,
                Self::Retryable => Severity::Retryable,
                Self::Panicked => Severity::Defect,
            }
        }

        fn code(&self) -> &'static str {
            "TEST_CODE"
        }

        fn cause(&self) -> Option<String> {
            None
        }
    }

    /// Observes `work` and returns its outcome with the codes that were counted.
    async fn observed(work: impl Future<Output = Result<u8, TestError>>) -> (Result<u8, TestError>, Vec<String>) {
        let counted = RefCell::new(Vec::new());
        let count = |failure: &TestError| counted.borrow_mut().push(failure.code().to_owned());
        let outcome = observe(Span::none(), work, count).await;
        (outcome, counted.into_inner())
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_and_is_counted() {
        let empty: Vec<u8> = Vec::new();
        let work = async {
            tokio::task::yield_now().await;
            Ok(empty[0])
        };
        assert_eq!(observed(work).await, (Err(TestError::Panicked), vec!["TEST_CODE".to_owned()]));
    }

    #[tokio::test]
    async fn only_defects_are_counted() {
        for outcome in [Ok(7), Err(TestError::Expected), Err(TestError::Retryable)] {
            assert_eq!(observed(async { outcome }).await, (outcome, vec![]));
        }
    }

    #[tokio::test]
    async fn errors_are_flushed_after_the_work() {
        let order = RefCell::new(Vec::new());
        let flush = async { order.borrow_mut().push("flushed") };
        let (outcome, counted) = flush_after(observed(async { std::panic::panic_any("broken") }), flush).await;
        order.borrow_mut().push("returned");
        assert_eq!((outcome, counted.len()), (Err(TestError::Panicked), 1));
        assert_eq!(*order.borrow(), ["flushed", "returned"]);
    }

    #[test]
    fn the_deadline_is_on_the_own_clock_and_never_in_the_past() {
        let (now, wall_clock) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1000));
        assert_eq!(deadline(wall_clock + Duration::from_secs(29), wall_clock, now), now + Duration::from_secs(29));
        assert_eq!(deadline(wall_clock - Duration::from_secs(1), wall_clock, now), now);
    }
}
