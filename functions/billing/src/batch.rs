//! One adapter from SQS to a handler of single messages: logging, the time that is left, and which messages stay in the queue.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use lambda_runtime::{LambdaEvent, service_fn};
use tracing::Instrument;
use tracing::field::Empty;

/// What is kept of an invocation's time to say what became of its messages. Without that answer all of them would come again.
const RESERVE: Duration = Duration::from_secs(1);
/// With less time than this no message is begun.
const LEAST_TIME: Duration = Duration::from_secs(2);

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

/// Runs a consumer until the environment ends. `handler` gets the body of one message at a time, in their order, within a span whose
/// fields `event_id`, `event_type` and `account_id` it may record.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut>(handler: F) -> Result<(), lambda_runtime::Error>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<(), MessageError>>,
{
    let handler = &handler;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let batch = Batch { request_id: event.context.request_id, deadline: Instant::now() + left };
        Ok::<SqsBatchResponse, lambda_runtime::Error>(batch.work(&event.payload.records, handler).await)
    }))
    .await
}

/// An invocation.
struct Batch {
    request_id: String,
    deadline: Instant,
}

impl Batch {
    /// Deals with the messages one after the other; none that fails holds up another. Those that came too early have another turn for as
    /// long as others succeed: the queue would bring them back only after its visibility timeout.
    async fn work<F, Fut>(&self, messages: &[SqsMessage], handler: &F) -> SqsBatchResponse
    where
        F: Fn(String) -> Fut,
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
                    Err(_) => keep(message, &mut response),
                }
            }
            waiting = early;
        }
        for message in waiting {
            keep(message, &mut response);
        }
        response
    }

    async fn one<F, Fut>(&self, message: &SqsMessage, handler: &F) -> Result<(), MessageError>
    where
        F: Fn(String) -> Fut,
        Fut: Future<Output = Result<(), MessageError>>,
    {
        let span = tracing::info_span!(
            "message",
            requestId = self.request_id,
            message_id = message.message_id,
            receives = message.attributes.get("ApproximateReceiveCount"),
            event_id = Empty,
            event_type = Empty,
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
                Err(error @ MessageError::Poison(_)) => tracing::error!(duration_ms, %error, "failed"),
            }
            outcome
        }
        .instrument(span)
        .await
    }

    async fn in_time<F, Fut>(&self, body: &str, handler: &F) -> Result<(), MessageError>
    where
        F: Fn(String) -> Fut,
        Fut: Future<Output = Result<(), MessageError>>,
    {
        let no_time = || MessageError::Unavailable("no time is left in this invocation".to_owned());
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < LEAST_TIME {
            return Err(no_time());
        }
        // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
        let outcome = Box::pin(handler(body.to_owned()));
        tokio::time::timeout(left.saturating_sub(RESERVE), outcome).await.unwrap_or_else(|_| Err(no_time()))
    }
}

/// Leaves the message in the queue. One without an id, which SQS never sends, leaves the whole batch there.
fn keep(message: &SqsMessage, response: &mut SqsBatchResponse) {
    response.add_failure(message.message_id.clone().unwrap_or_default());
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

    fn batch(left: Duration) -> Batch {
        Batch { request_id: "r1".to_owned(), deadline: Instant::now() + left }
    }

    fn kept(response: &SqsBatchResponse) -> Vec<&str> {
        response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
    }

    #[tokio::test]
    async fn what_fails_stays_and_holds_up_nobody() {
        let seen = RefCell::new(Vec::new());
        let handler = async |body: String| {
            seen.borrow_mut().push(body.clone());
            match body.as_str() {
                "poison" => Err(MessageError::Poison("x".to_owned())),
                "down" => Err(MessageError::Unavailable("x".to_owned())),
                _ => Ok(()),
            }
        };
        let mut all = messages(&["a", "poison", "b", "down", "c"]);
        let response = batch(Duration::from_mins(1)).work(&all, &handler).await;
        assert_eq!(kept(&response), ["id-poison", "id-down"]);
        assert_eq!(*seen.borrow(), ["a", "poison", "b", "down", "c"]);
        let sent = serde_json::to_value(&response).unwrap();
        assert_eq!(sent, json!({ "batchItemFailures": [{ "itemIdentifier": "id-poison" }, { "itemIdentifier": "id-down" }] }));
        all[0].body = None;
        assert_eq!(kept(&batch(Duration::from_mins(1)).work(&all[..1], &handler).await), ["id-a"]);
        assert_eq!(kept(&batch(Duration::from_mins(1)).work(&[], &handler).await), [""; 0]);
    }

    #[tokio::test]
    async fn what_came_too_early_has_another_turn_after_the_others() {
        // Each waits for the next; the last of all never comes.
        let done = RefCell::new(Vec::<String>::new());
        let handler = async |body: String| {
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
        let handler = async |body: String| {
            if body == "slow" {
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
}
