//! The AWS services that hold Oslira's state: the profile cache (S3), progress, rate limits and counters (DynamoDB), executions
//! (Step Functions), queues (SQS) and secrets. Each is behind a feature, so that a function links only the SDKs that it uses.

mod config;
mod error;

#[cfg(feature = "sfn")]
pub mod executions;
#[cfg(feature = "lambda")]
pub mod functions;
#[cfg(feature = "dynamodb")]
pub mod limits;
#[cfg(feature = "dynamodb")]
#[cfg(feature = "s3")]
pub mod profiles;
#[cfg(feature = "dynamodb")]
pub mod progress;
#[cfg(feature = "sqs")]
pub mod queues;
#[cfg(feature = "secrets")]
pub mod secrets;

pub use aws_config::SdkConfig;
pub use config::{AwsConfig, sdk_config};
pub use error::AwsError;
