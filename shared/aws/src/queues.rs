//! SQS: what is answered at once and done later.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::Client;

use crate::error::describe;
use crate::{AwsError, MissingVariable, variable};

/// One queue.
///
/// Whoever sends is being waited for, and is told quickly if the queue is out of reach: within four seconds, one further try included.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// The queue whose URL is in the environment variable `name`.
    ///
    /// # Errors
    /// When the variable is missing.
    pub fn from_env(config: &SdkConfig, name: &'static str) -> Result<Self, MissingVariable> {
        Ok(Self::new(config, variable(name)?))
    }

    /// The queue at `url`.
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(4))
            .build();
        let config = aws_sdk_sqs::config::Builder::from(config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(200)))
            .build();
        Self { client: Client::from_conf(config), url: url.into() }
    }

    /// Puts a message into the queue. After an error it may be there all the same: consumers see messages twice anyway.
    ///
    /// # Errors
    /// When it may not be in the queue.
    pub async fn send(&self, body: String) -> Result<(), AwsError> {
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).send().await;
        sent.map(drop).map_err(|error| describe!("sqs", error, aws_sdk_sqs))
    }
}
