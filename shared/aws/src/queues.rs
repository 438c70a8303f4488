//! SQS: work that is accepted at once and done later.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};

use crate::AwsError;
use crate::config::{Lazy, lazily, make};
use crate::error::describe;

/// One queue.
///
/// A client waits for the sender, so a send fails within four seconds if the queue is not available, one retry included.
#[derive(Clone)]
pub struct Queue {
    client: Lazy<Client>,
    url: String,
}

impl Queue {
    /// Returns the queue at `url`.
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        let client = lazily(config, |config| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(1))
                .operation_attempt_timeout(Duration::from_secs(2))
                .operation_timeout(Duration::from_secs(4))
                .build();
            let retries = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200));
            Client::from_conf(aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts).retry_config(retries).build())
        });
        Self { client, url: url.into() }
    }

    /// Makes the client, before a message has to be sent.
    pub fn warm_up(&self) {
        make(&self.client);
    }

    /// Checks that the queue exists and can be read.
    ///
    /// # Errors
    /// Fails when it cannot.
    pub async fn ping(&self) -> Result<(), AwsError> {
        let read = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(QueueAttributeName::QueueArn).send().await;
        read.map(drop).map_err(|error| describe!("sqs", error, aws_sdk_sqs))
    }

    /// Sends a message. After an error it may be in the queue all the same: consumers handle redelivery anyway.
    ///
    /// # Errors
    /// When it may not be in the queue.
    pub async fn send(&self, body: String) -> Result<(), AwsError> {
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).send().await;
        sent.map(drop).map_err(|error| describe!("sqs", error, aws_sdk_sqs))
    }

    /// Sends up to ten messages in one request. After an error some of them may be in the queue.
    ///
    /// # Errors
    /// When one of them may not be in the queue.
    pub async fn send_all(&self, bodies: Vec<String>) -> Result<(), AwsError> {
        let mut request = self.client.send_message_batch().queue_url(&self.url);
        for (number, body) in bodies.into_iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(number.to_string()).message_body(body).build();
            request = request.entries(entry.map_err(|error| AwsError::new("sqs", error.to_string()))?);
        }
        let sent = request.send().await.map_err(|error| describe!("sqs", error, aws_sdk_sqs))?;
        match sent.failed.first() {
            None => Ok(()),
            Some(failed) => Err(AwsError::new("sqs", format!("{} of a batch not sent ({})", sent.failed.len(), failed.code))),
        }
    }

    /// Changes the visibility timeout of a received message: it is redelivered `timeout` from now on.
    ///
    /// # Errors
    /// When it may be redelivered at another time.
    pub async fn change_visibility(&self, receipt_handle: &str, timeout: Duration) -> Result<(), AwsError> {
        let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).min(43_200);
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt_handle);
        let changed = request.visibility_timeout(seconds).send().await;
        changed.map(drop).map_err(|error| describe!("sqs", error, aws_sdk_sqs))
    }
}
