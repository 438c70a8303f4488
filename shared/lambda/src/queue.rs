//! SQS queues: one message at a time, within the time that is left, and a report of the messages that stay in the queue.

use std::time::{Duration, Instant};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use oslira_aws::AwsError;
use oslira_aws::queues::Queue;
use oslira_credential::CredentialError;
use oslira_db::DbError;
use oslira_vendors::VendorError;
use tracing::field::Empty;

use crate::failure::{Failure, Panicked, Severity};
use crate::invocation::{Invocation, run_parts};
use crate::{Error, invocation_span};

/// What is kept of an invocation's time for its response. Without a response SQS redelivers every message of the batch.
const RESERVE: Duration = Duration::from_secs(2);
/// With less time than this no message is begun.
const MIN_TIME: Duration = Duration::from_secs(3);
/// How long a message stays invisible after its first failure; twice as long after each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The SQLSTATE of what the database does not know yet.
const NOT_KNOWN: &str = "OS404";

/// Why a message failed. It stays in the queue whatever the reason, and goes to the dead-letter queue after repeated failures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It depends on something that is not known yet, and that may be in the same batch, behind it.
    #[error("{0}")]
    TooEarly(String),
    /// A dependency was not available.
    #[error("{0}")]
    Unavailable(String),
    /// It fails until the code or the data is corrected.
    #[error("{0}")]
    Poison(String),
}

impl From<AwsError> for MessageError {
    fn from(error: AwsError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<CredentialError> for MessageError {
    fn from(error: CredentialError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<DbError> for MessageError {
    fn from(error: DbError) -> Self {
        match &error {
            DbError::Rule { code, .. } if code == NOT_KNOWN => Self::TooEarly(error.to_string()),
            error if error.is_retryable() => Self::Unavailable(error.to_string()),
            error => Self::Poison(error.to_string()),
        }
    }
}

/// What a vendor refuses is redelivered as well: an operator may correct the account meanwhile.
impl From<VendorError> for MessageError {
    fn from(error: VendorError) -> Self {
        if error.is_retryable() { Self::Unavailable(error.to_string()) } else { Self::Poison(error.to_string()) }
    }
}

impl From<Panicked> for MessageError {
    fn from(panicked: Panicked) -> Self {
        Self::Poison(panicked.to_string())
    }
}

impl Failure for MessageError {
    fn severity(&self) -> Severity {
        match self {
            Self::TooEarly(_) | Self::Unavailable(_) => Severity::Retryable,
            Self::Poison(_) => Severity::Defect,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooEarly(_) => "TOO_EARLY",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Poison(_) => "POISON_MESSAGE",
        }
    }

    fn cause(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A message as its handler receives it.
#[derive(Debug)]
pub struct Message {
    /// Its text.
    pub body: String,
    /// When the handler is stopped.
    pub deadline: Instant,
}

/// Runs a consumer until the environment ends. The handler receives one message at a time, in their order, within a span whose fields
/// `event_id`, `event_type`, `batch_id`, `run_id` and `account_id` it may record.
///
/// A message that fails is redelivered: after a backoff that grows, if `queue`, which it came from, is given; else after the queue's
/// visibility timeout.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<D>(queue: Option<Queue>, deps: D, handler: impl AsyncFn(Message, &D) -> Result<(), MessageError>) -> Result<(), Error> {
    let (queue, deps, handler) = (queue.as_ref(), &deps, &handler);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        Ok::<SqsBatchResponse, Error>(invoke(&event.payload, &event.context, queue, deps, handler).await)
    }))
    .await
}

/// Processes the messages of one invocation, as [`run`] does: for a function that has other triggers too.
pub async fn invoke<D>(
    event: &SqsEvent,
    context: &Context,
    queue: Option<&Queue>,
    deps: &D,
    handler: &impl AsyncFn(Message, &D) -> Result<(), MessageError>,
) -> SqsBatchResponse {
    let handler = async |message: Message| handler(message, deps).await;
    let batch = Batch { invocation: Invocation::from(context), queue };
    // Boxed: the future of the batch holds those of the SDK.
    run_parts(Box::pin(batch.process(&event.records, &handler))).await
}

/// The messages of an invocation.
struct Batch<'a> {
    invocation: Invocation,
    queue: Option<&'a Queue>,
}

impl Batch<'_> {
    /// Processes the messages one after the other; one that fails does not stop the others. Those that came too early are retried for as
    /// long as others succeed: the queue would redeliver them only after its visibility timeout.
    async fn process(&self, messages: &[SqsMessage], handler: &impl AsyncFn(Message) -> Result<(), MessageError>) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        let mut waiting: Vec<&SqsMessage> = messages.iter().collect();
        let mut succeeded = true;
        while succeeded && !waiting.is_empty() {
            succeeded = false;
            let mut early = Vec::new();
            for message in waiting {
                match self.process_one(message, handler).await {
                    Ok(()) => succeeded = true,
                    Err(MessageError::TooEarly(_)) => early.push(message),
                    Err(_) => self.keep(message, &mut response).await,
                }
            }
            waiting = early;
        }
        for message in waiting {
            self.keep(message, &mut response).await;
        }
        response
    }

    async fn process_one(
        &self,
        message: &SqsMessage,
        handler: &impl AsyncFn(Message) -> Result<(), MessageError>,
    ) -> Result<(), MessageError> {
        let message_id = message.message_id.as_deref().unwrap_or_default();
        let span = invocation_span!(
            "message",
            self.invocation,
            message_id,
            receives = receives(message),
            event_id = Empty,
            event_type = Empty,
            batch_id = Empty,
            run_id = Empty,
            account_id = Empty
        );
        let work = async {
            let Some(body) = &message.body else { return Err(MessageError::Poison("the message has no body".to_owned())) };
            self.handle_in_time(body, handler).await
        };
        self.invocation.observe(span, &[("message_id", message_id)], work).await
    }

    async fn handle_in_time(&self, body: &str, handler: &impl AsyncFn(Message) -> Result<(), MessageError>) -> Result<(), MessageError> {
        let no_time = || MessageError::Unavailable("no time is left in this invocation".to_owned());
        let left = self.time_left();
        if left < MIN_TIME {
            return Err(no_time());
        }
        let deadline = Instant::now() + left.saturating_sub(RESERVE);
        // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
        let outcome = Box::pin(handler(Message { body: body.to_owned(), deadline }));
        tokio::time::timeout_at(deadline.into(), outcome).await.unwrap_or_else(|_| Err(no_time()))
    }

    fn time_left(&self) -> Duration {
        self.invocation.deadline.saturating_duration_since(Instant::now())
    }

    /// Reports the message as failed, and extends its visibility timeout. One without an id, which SQS never sends, keeps the whole batch
    /// in the queue.
    async fn keep(&self, message: &SqsMessage, response: &mut SqsBatchResponse) {
        response.add_failure(message.message_id.clone().unwrap_or_default());
        let (Some(queue), Some(handle)) = (self.queue, &message.receipt_handle) else { return };
        // Bounded by the time that is left, because the response must be sent.
        let left = self.time_left().saturating_sub(RESERVE / 2);
        match tokio::time::timeout(left, queue.change_visibility(handle, backoff(receives(message)))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(requestId = self.invocation.request_id, %error, "visibility not changed, the queue's timeout applies");
            }
            Err(_) => tracing::warn!(requestId = self.invocation.request_id, "no time left to change the visibility"),
        }
    }
}

/// Returns how often the message was received, this time included.
fn receives(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn backoff(receives: u32) -> Duration {
    FIRST_BACKOFF * 2_u32.pow(receives.saturating_sub(1).min(6))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;

    fn messages(bodies: &[&str]) -> Vec<SqsMessage> {
        let record =
            |body: &&str| json!({ "messageId": format!("id-{body}"), "body": body, "attributes": { "ApproximateReceiveCount": "1" } });
        let records: Vec<_> = bodies.iter().map(record).collect();
        serde_json::from_value::<SqsEvent>(json!({ "Records": records })).unwrap().records
    }

    fn batch(left: Duration) -> Batch<'static> {
        let invocation = Invocation { request_id: "r1".to_owned(), xray_trace_id: None, deadline: Instant::now() + left };
        Batch { invocation, queue: None }
    }

    fn kept(response: &SqsBatchResponse) -> Vec<&str> {
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
    }

    #[tokio::test]
    async fn a_message_that_fails_stays_and_does_not_stop_the_others() {
        let seen = RefCell::new(Vec::new());
        let handler = async |message: Message| {
            seen.borrow_mut().push(message.body.clone());
            match message.body.as_str() {
                "poison" => Err(MessageError::Poison("x".to_owned())),
                "panic" => std::panic::panic_any("x"),
                "down" => Err(MessageError::Unavailable("x".to_owned())),
                _ => Ok(()),
            }
        };
        let mut all = messages(&["a", "poison", "b", "panic", "down", "c"]);
        let response = batch(Duration::from_mins(1)).process(&all, &handler).await;
        assert_eq!(kept(&response), ["id-poison", "id-panic", "id-down"]);
        assert_eq!(*seen.borrow(), ["a", "poison", "b", "panic", "down", "c"]);
        let sent = serde_json::to_value(&response).unwrap();
        let identifiers = ["id-poison", "id-panic", "id-down"].map(|id| json!({ "itemIdentifier": id }));
        assert_eq!(sent, json!({ "batchItemFailures": identifiers }));
        all[0].body = None;
        assert_eq!(kept(&batch(Duration::from_mins(1)).process(&all[..1], &handler).await), ["id-a"]);
        assert_eq!(kept(&batch(Duration::from_mins(1)).process(&[], &handler).await), [""; 0]);
    }

    #[tokio::test]
    async fn a_message_that_came_too_early_is_retried_after_the_others() {
        // Each waits for the next; the last of all never comes.
        let done = RefCell::new(Vec::<String>::new());
        let handler = async |Message { body, .. }: Message| {
            let (own, needs) = body.split_once('<').unwrap_or((&body, ""));
            if needs.is_empty() || done.borrow().iter().any(|known| known == needs) {
                done.borrow_mut().push(own.to_owned());
                return Ok(());
            }
            Err(MessageError::TooEarly("not known yet".to_owned()))
        };
        let response = batch(Duration::from_mins(1)).process(&messages(&["a<b", "lost<never", "b<c", "c"]), &handler).await;
        assert_eq!(kept(&response), ["id-lost<never"]);
        assert_eq!(*done.borrow(), ["c", "b", "a"]);
    }

    #[tokio::test]
    async fn a_message_without_enough_time_stays() {
        let handler = async |message: Message| {
            if message.body == "slow" {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        let started = Instant::now();
        let response = batch(MIN_TIME + Duration::from_millis(100)).process(&messages(&["a", "slow", "b"]), &handler).await;
        assert_eq!(kept(&response), ["id-slow", "id-b"]);
        assert!(started.elapsed() < MIN_TIME);
        assert_eq!(kept(&batch(Duration::ZERO).process(&messages(&["a", "b"]), &handler).await), ["id-a", "id-b"]);
    }

    #[test]
    fn backoffs_grow_and_stay_bounded() {
        let seconds = |count: &str| {
            let mut message = messages(&["a"]).remove(0);
            message.attributes.insert("ApproximateReceiveCount".to_owned(), count.to_owned());
            backoff(receives(&message)).as_secs()
        };
        assert_eq!(["1", "2", "3", "99", "many"].map(seconds), [10, 20, 40, 640, 10]);
    }

    #[test]
    fn errors_say_whether_waiting_helps() {
        let rule = |code: &str| MessageError::from(DbError::Rule { code: code.to_owned(), message: "m".to_owned() });
        assert!(matches!(rule("OS404"), MessageError::TooEarly(_)));
        assert!(matches!(rule("OS400"), MessageError::Poison(_)) && matches!(rule("23514"), MessageError::Poison(_)));
        assert!(matches!(DbError::Conflict(String::new()).into(), MessageError::Unavailable(_)));
        assert!(matches!(VendorError::Overloaded(500).into(), MessageError::Unavailable(_)));
        assert!(matches!(VendorError::Unauthorized.into(), MessageError::Poison(_)));
        assert!(matches!(AwsError::new("s3", "").into(), MessageError::Unavailable(_)));
    }
}
