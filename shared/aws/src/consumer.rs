//! One adapter from SQS to a handler of single messages: logging, the time that is left, and which messages stay in the queue.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{Context, LambdaEvent, service_fn};
use oslira_db::DbError;
use oslira_telemetry::{caught, count_error};
use oslira_vendors::VendorError;
use tracing::Instrument;
use tracing::field::Empty;

use crate::AwsError;
use crate::queues::Queue;

/// What is kept of an invocation's time to say what became of its messages. Without that answer all of them would come again.
const RESERVE: Duration = Duration::from_secs(2);
/// With less time than this no message is begun.
const LEAST_TIME: Duration = Duration::from_secs(3);
/// How long a message rests after its first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The SQLSTATE of what the database does not know yet.
const NOT_KNOWN: &str = "OS404";

/// Why a message could not be dealt with. It stays in the queue whatever the reason, and goes to the dead-letter queue if that goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It builds on something that is not known yet. That may be in the same batch, behind it.
    #[error("{0}")]
    TooEarly(String),
    /// Something that it needs did not answer.
    #[error("{0}")]
    Unavailable(String),
    /// It will fail until the code or the data is mended.
    #[error("{0}")]
    Poison(String),
}

impl From<AwsError> for MessageError {
    fn from(error: AwsError) -> Self {
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

/// Also what a vendor refuses comes again: an operator may mend the account meanwhile.
impl From<VendorError> for MessageError {
    fn from(error: VendorError) -> Self {
        if error.is_retryable() { Self::Unavailable(error.to_string()) } else { Self::Poison(error.to_string()) }
    }
}

/// A message as its handler gets it.
#[derive(Debug)]
pub struct Message {
    /// Its text.
    pub body: String,
    /// When work on it has to be over.
    pub deadline: Instant,
}

/// Runs a consumer until the environment ends. The handler gets one message at a time, in their order, within a span whose fields `event_id`,
/// `event_type`, `batch_id`, `run_id` and `account_id` it may record. A message that fails comes again: after a pause that grows, if
/// `queue`, which it came from, is given, else after the queue's own.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut>(queue: Option<Queue>, handler: F) -> Result<(), lambda_runtime::Error>
where
    F: Fn(Message) -> Fut,
    Fut: Future<Output = Result<(), MessageError>>,
{
    let (queue, handler) = (queue.as_ref(), &handler);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        Ok::<SqsBatchResponse, lambda_runtime::Error>(work(&event.payload, &event.context, queue, handler).await)
    }))
    .await
}

/// Deals with the messages of one invocation, as [`run`] does.
pub async fn work<F, Fut>(event: &SqsEvent, context: &Context, queue: Option<&Queue>, handler: &F) -> SqsBatchResponse
where
    F: Fn(Message) -> Fut,
    Fut: Future<Output = Result<(), MessageError>>,
{
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let trace_id = context.xray_trace_id.as_deref();
    let batch = Batch { request_id: &context.request_id, trace_id, ends: Instant::now() + left, queue };
    let response = batch.work(&event.records, handler).await;
    oslira_telemetry::report().await;
    response
}

/// An invocation.
struct Batch<'a> {
    request_id: &'a str,
    trace_id: Option<&'a str>,
    ends: Instant,
    queue: Option<&'a Queue>,
}

impl Batch<'_> {
    /// Deals with the messages one after the other; none that fails holds up another. Those that came too early have another turn for as
    /// long as others succeed: the queue would bring them back only after its visibility timeout.
    async fn work<F, Fut>(&self, messages: &[SqsMessage], handler: &F) -> SqsBatchResponse
    where
        F: Fn(Message) -> Fut,
        Fut: Future<Output = Result<(), MessageError>>,
    {
        let mut response = SqsBatchResponse::default();
        let mut waiting: Vec<&SqsMessage> = messages.iter().collect();
        let mut succeeded = true;
        while succeeded && !waiting.is_empty() {
            succeeded = false;
            let mut early = Vec::new();
            for message in waiting {
                match self.one(message, handler).await {
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

    async fn one<F, Fut>(&self, message: &SqsMessage, handler: &F) -> Result<(), MessageError>
    where
        F: Fn(Message) -> Fut,
        Fut: Future<Output = Result<(), MessageError>>,
    {
        let span = tracing::info_span!(
            "message",
            requestId = self.request_id,
            xray_trace_id = self.trace_id,
            message_id = message.message_id,
            receives = receives(message),
            event_id = Empty,
            event_type = Empty,
            batch_id = Empty,
            run_id = Empty,
            account_id = Empty
        );
        async {
            let started = Instant::now();
            let outcome = match &message.body {
                Some(body) => self.in_time(body, handler).await,
                None => Err(MessageError::Poison("a message without a body".to_owned())),
            };
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(()) => tracing::info!(duration_ms, "done"),
                Err(error @ MessageError::TooEarly(_)) => tracing::warn!(duration_ms, %error, "too early"),
                Err(error @ MessageError::Unavailable(_)) => tracing::warn!(duration_ms, %error, "failed, will be tried again"),
                Err(error @ MessageError::Poison(_)) => {
                    tracing::error!(duration_ms, %error, "failed");
                    let message_id = message.message_id.as_deref().unwrap_or_default();
                    count_error("POISON_MESSAGE", &[("requestId", self.request_id), ("message_id", message_id)]);
                }
            }
            outcome
        }
        .instrument(span)
        .await
    }

    async fn in_time<F, Fut>(&self, body: &str, handler: &F) -> Result<(), MessageError>
    where
        F: Fn(Message) -> Fut,
        Fut: Future<Output = Result<(), MessageError>>,
    {
        let no_time = || MessageError::Unavailable("no time is left in this invocation".to_owned());
        let left = self.ends.saturating_duration_since(Instant::now());
        if left < LEAST_TIME {
            return Err(no_time());
        }
        let deadline = Instant::now() + left.saturating_sub(RESERVE);
        // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
        let outcome = Box::pin(handler(Message { body: body.to_owned(), deadline }));
        let outcome = caught(tokio::time::timeout_at(deadline.into(), outcome)).await;
        let in_time = outcome.map_err(|panicked| MessageError::Poison(panicked.to_string()))?;
        in_time.unwrap_or_else(|_| Err(no_time()))
    }

    /// Leaves the message in the queue, where it rests for a while. One without an id, which SQS never sends, leaves the whole batch there.
    async fn keep(&self, message: &SqsMessage, response: &mut SqsBatchResponse) {
        response.add_failure(message.message_id.clone().unwrap_or_default());
        let (Some(queue), Some(handle)) = (self.queue, &message.receipt_handle) else { return };
        // Not a second later than there is time for: the answer says what was done.
        let left = self.ends.saturating_duration_since(Instant::now()).saturating_sub(RESERVE / 2);
        match tokio::time::timeout(left, queue.hide(handle, pause(receives(message)))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(requestId = self.request_id, %error, "the message comes again after the queue's own timeout"),
            Err(_) => tracing::warn!(requestId = self.request_id, "no time to let the message rest"),
        }
    }
}

/// How often the message was received, this time included.
fn receives(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn pause(receives: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(receives.saturating_sub(1).min(6))
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
        Batch { request_id: "r1", trace_id: None, ends: Instant::now() + left, queue: None }
    }

    fn kept(response: &SqsBatchResponse) -> Vec<&str> {
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
    }

    #[tokio::test]
    async fn what_fails_stays_and_holds_up_nobody() {
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
        let response = batch(Duration::from_mins(1)).work(&all, &handler).await;
        assert_eq!(kept(&response), ["id-poison", "id-panic", "id-down"]);
        assert_eq!(*seen.borrow(), ["a", "poison", "b", "panic", "down", "c"]);
        let sent = serde_json::to_value(&response).unwrap();
        let identifiers = ["id-poison", "id-panic", "id-down"].map(|id| json!({ "itemIdentifier": id }));
        assert_eq!(sent, json!({ "batchItemFailures": identifiers }));
        all[0].body = None;
        assert_eq!(kept(&batch(Duration::from_mins(1)).work(&all[..1], &handler).await), ["id-a"]);
        assert_eq!(kept(&batch(Duration::from_mins(1)).work(&[], &handler).await), [""; 0]);
    }

    #[tokio::test]
    async fn what_came_too_early_has_another_turn_after_the_others() {
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
        let response = batch(Duration::from_mins(1)).work(&messages(&["a<b", "lost<never", "b<c", "c"]), &handler).await;
        assert_eq!(kept(&response), ["id-lost<never"]);
        assert_eq!(*done.borrow(), ["c", "b", "a"]);
    }

    #[tokio::test]
    async fn what_there_is_no_time_for_stays() {
        let handler = async |message: Message| {
            if message.body == "slow" {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        let started = Instant::now();
        let response = batch(LEAST_TIME + Duration::from_millis(100)).work(&messages(&["a", "slow", "b"]), &handler).await;
        assert_eq!(kept(&response), ["id-slow", "id-b"]);
        assert!(started.elapsed() < LEAST_TIME);
        assert_eq!(kept(&batch(Duration::ZERO).work(&messages(&["a", "b"]), &handler).await), ["id-a", "id-b"]);
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let seconds = |count: &str| {
            let mut message = messages(&["a"]).remove(0);
            message.attributes.insert("ApproximateReceiveCount".to_owned(), count.to_owned());
            pause(receives(&message)).as_secs()
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
