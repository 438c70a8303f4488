//! One adapter from SQS to a handler of single messages, for queues whose messages are worth an invocation each.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{LambdaEvent, service_fn};
use oslira_aws::AwsError;
use oslira_aws::queues::Queue;
use oslira_db::DbError;
use tracing::Instrument;
use tracing::field::Empty;

/// What is kept of an invocation's time to say what became of its message.
const RESERVE: Duration = Duration::from_secs(3);
/// How long a message rests after its first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Why a message could not be dealt with. It comes again whatever the reason, until it goes to the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
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

/// Runs a consumer until the environment ends. A message that fails comes again: after a pause that grows, if `queue`, which it came from,
/// is given, else after the queue's own.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut>(queue: Option<Queue>, handler: F) -> Result<(), lambda_runtime::Error>
where
    F: Fn(Message) -> Fut,
    Fut: Future<Output = Result<(), MessageError>>,
{
    let (queue, handler) = (&queue, &handler);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let deadline = Instant::now() + left.saturating_sub(RESERVE);
        let mut response = SqsBatchResponse::default();
        for message in event.payload.records {
            if one(&message, &event.context.request_id, deadline, handler).await.is_err() {
                if let Some(queue) = queue {
                    rest(queue, &message).await;
                }
                response.add_failure(message.message_id.unwrap_or_default());
            }
        }
        Ok::<SqsBatchResponse, lambda_runtime::Error>(response)
    }))
    .await
}

async fn one<F, Fut>(message: &SqsMessage, request_id: &str, deadline: Instant, handler: &F) -> Result<(), MessageError>
where
    F: Fn(Message) -> Fut,
    Fut: Future<Output = Result<(), MessageError>>,
{
    let span = tracing::info_span!(
        "message",
        requestId = request_id,
        message_id = message.message_id,
        receives = receives(message),
        batch_id = Empty,
        account_id = Empty
    );
    let body = message.body.clone().unwrap_or_default();
    // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
    let outcome = Box::pin(handler(Message { body, deadline }));
    async {
        let started = Instant::now();
        let outcome = tokio::time::timeout_at(deadline.into(), outcome).await;
        let outcome = outcome.unwrap_or_else(|_| Err(MessageError::Unavailable("no time is left in this invocation".to_owned())));
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(()) => tracing::info!(duration_ms, "done"),
            Err(error @ MessageError::Unavailable(_)) => tracing::warn!(duration_ms, %error, "failed, will be tried again"),
            Err(error @ MessageError::Poison(_)) => tracing::error!(duration_ms, %error, "failed"),
        }
        outcome
    }
    .instrument(span)
    .await
}

/// How often the message was received, this time included.
fn receives(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn pause(receives: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(receives.saturating_sub(1).min(6))
}

/// Lets a message rest before it comes again.
async fn rest(queue: &Queue, message: &SqsMessage) {
    let Some(handle) = &message.receipt_handle else { return };
    if let Err(error) = queue.hide(handle, pause(receives(message))).await {
        tracing::warn!(%error, "the message comes again after the queue's own timeout");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(receives: &str) -> SqsMessage {
        let record = json!({ "messageId": "m1", "body": "text", "attributes": { "ApproximateReceiveCount": receives } });
        serde_json::from_value::<SqsEvent>(json!({ "Records": [record] })).unwrap().records.remove(0)
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let seconds = |count: &str| pause(receives(&message(count))).as_secs();
        assert_eq!(["1", "2", "3", "99", "many"].map(seconds), [10, 20, 40, 640, 10]);
    }

    #[tokio::test]
    async fn a_handler_without_time_fails() {
        let silent = async |_: Message| std::future::pending().await;
        let error = one(&message("1"), "r1", Instant::now() + Duration::from_millis(20), &silent).await.unwrap_err();
        assert!(matches!(error, MessageError::Unavailable(_)));
        let echo = async |message: Message| if message.body == "text" { Ok(()) } else { Err(MessageError::Poison(message.body)) };
        assert_eq!(one(&message("1"), "r1", Instant::now() + Duration::from_secs(5), &echo).await, Ok(()));
    }
}
