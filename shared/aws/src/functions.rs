//! Lambda: synchronous invocations of another function.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// One function.
#[derive(Clone)]
pub struct Function {
    client: Lazy<Client>,
    name: String,
}

impl Function {
    /// Returns the function with this name or ARN. An invocation takes at most `timeout`.
    ///
    /// There are no retries: a second invocation would do the work twice.
    pub fn new(config: &SdkConfig, name: impl Into<String>, timeout: Duration) -> Self {
        let client = lazily(config, move |config| {
            // The shared configuration bounds each attempt by seconds. This one lasts as long as the function.
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(timeout)
                .operation_timeout(timeout)
                .build();
            let config = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts).retry_config(RetryConfig::disabled());
            Client::from_conf(config.build())
        });
        Self { client, name: name.into() }
    }

    /// Invokes the function with `input` and returns its output.
    ///
    /// # Errors
    /// When it fails or does not return in time. It may have done its work all the same.
    pub async fn invoke<Output: DeserializeOwned>(&self, input: &impl Serialize) -> Result<Output, AwsError> {
        let input = serde_json::to_vec(input).map_err(|error| AwsError::new("lambda", error.to_string()))?;
        let response = self.client.invoke().function_name(&self.name).payload(Blob::new(input)).send().await;
        let response = response.map_err(|error| describe!("lambda", error, aws_sdk_lambda))?;
        if let Some(kind) = response.function_error {
            return Err(AwsError::new("lambda", format!("the function failed: {kind}")));
        }
        let payload = response.payload.unwrap_or_else(|| Blob::new(Vec::new()));
        serde_json::from_slice(payload.as_ref()).map_err(|_| AwsError::new("lambda", "unexpected output"))
    }
}
