//! Lambda: asking another function of ours, and waiting for its answer.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{Lazy, lazily};
use crate::error::describe;
use crate::{AwsError, MissingVariable, variable};

/// One function.
#[derive(Clone)]
pub struct Function {
    client: Lazy<Client>,
    name: String,
}

impl Function {
    /// The function whose name or ARN is in the environment variable `name`, which is waited for at most `patience`.
    ///
    /// It is asked once: a second try would have its work done twice.
    ///
    /// # Errors
    /// When the variable is missing.
    pub fn from_env(config: &SdkConfig, name: &'static str, patience: Duration) -> Result<Self, MissingVariable> {
        let client = lazily(config, move |config| {
            let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(2)).operation_timeout(patience).build();
            let config = aws_sdk_lambda::config::Builder::from(config).timeout_config(timeouts).retry_config(RetryConfig::disabled());
            Client::from_conf(config.build())
        });
        Ok(Self { client, name: variable(name)? })
    }

    /// What the function answers to `input`.
    ///
    /// # Errors
    /// When it does not answer in time, or fails. It may have done its work all the same.
    pub async fn ask<Answer: DeserializeOwned>(&self, input: &impl Serialize) -> Result<Answer, AwsError> {
        let input = serde_json::to_vec(input).map_err(|error| AwsError::new("lambda", error.to_string()))?;
        let answer = self.client.invoke().function_name(&self.name).payload(Blob::new(input)).send().await;
        let answer = answer.map_err(|error| describe!("lambda", error, aws_sdk_lambda))?;
        if let Some(kind) = answer.function_error {
            return Err(AwsError::new("lambda", format!("the function failed: {kind}")));
        }
        let payload = answer.payload.unwrap_or_else(|| Blob::new(Vec::new()));
        serde_json::from_slice(payload.as_ref()).map_err(|_| AwsError::new("lambda", "an answer that is not the one expected"))
    }
}
