//! The stack's queues.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;

use super::{World, until};

/// The longest time in which a queue becomes empty.
const DRAIN_TIMEOUT: Duration = Duration::from_mins(6);

/// A queue of the stack.
#[derive(Debug, Clone, Copy)]
pub enum Queue {
    StripeEvents,
    StripeEventsDeadLetters,
    BulkGroups,
    BulkGroupsDeadLetters,
}

impl World {
    /// Returns the URL of a queue.
    pub fn queue_url(&self, queue: Queue) -> &str {
        &self.stack.outputs()[match queue {
            Queue::StripeEvents => "StripeEventsUrl",
            Queue::StripeEventsDeadLetters => "StripeEventsDeadLettersUrl",
            Queue::BulkGroups => "BulkGroupsUrl",
            Queue::BulkGroupsDeadLetters => "BulkGroupsDeadLettersUrl",
        }]
    }

    /// Returns the number of messages in a queue, including those that a consumer is processing.
    pub async fn messages_in(&self, queue: Queue) -> u32 {
        const COUNTS: [QueueAttributeName; 2] =
            [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
        let request = self.sqs.get_queue_attributes().queue_url(self.queue_url(queue)).set_attribute_names(Some(COUNTS.to_vec()));
        let attributes = request.send().await.expect("attributes of the queue").attributes.expect("attributes");
        COUNTS.iter().map(|name| attributes[name].parse::<u32>().expect("a number")).sum()
    }

    /// Waits until a queue has no messages, including those that a consumer is processing.
    pub async fn until_empty(&self, queue: Queue) {
        until(&format!("the end of {queue:?}"), DRAIN_TIMEOUT, || async { (self.messages_in(queue).await == 0).then_some(()) }).await;
    }

    /// Sets the seconds after which a message is redelivered whose delivery was not acknowledged.
    pub async fn set_visibility_timeout(&self, queue: Queue, seconds: u32) {
        let request = self.sqs.set_queue_attributes().queue_url(self.queue_url(queue));
        request.attributes(QueueAttributeName::VisibilityTimeout, seconds.to_string()).send().await.expect("the visibility timeout is set");
    }

    /// Sends a message to a queue.
    pub async fn send_message(&self, queue: Queue, body: &str) {
        self.sqs.send_message().queue_url(self.queue_url(queue)).message_body(body).send().await.expect("the message is sent");
    }
}
