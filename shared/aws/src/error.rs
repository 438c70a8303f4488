//! The error of every AWS service.

/// A request to a service failed. The SDK has already retried what is worth a retry within one invocation.
#[derive(Debug, thiserror::Error)]
#[error("{service}: {message}")]
pub struct AwsError {
    /// The service.
    pub service: &'static str,
    /// The error's code or kind. Never request or response bodies, which may hold profiles or secrets.
    pub message: String,
}

impl AwsError {
    /// Returns an error of `service`. `message` must not hold content of requests or responses.
    pub fn new(service: &'static str, message: impl Into<String>) -> Self {
        Self { service, message: message.into() }
    }
}

/// Describes an SDK error by its code or by the kind of transport failure.
#[cfg(any(feature = "dynamodb", feature = "lambda", feature = "s3", feature = "secrets", feature = "sfn", feature = "sqs"))]
macro_rules! describe {
    ($service:literal, $error:expr, $sdk:ident) => {{
        use $sdk::error::ProvideErrorMetadata;
        let message = match &$error {
            $sdk::error::SdkError::ServiceError(context) => context.err().code().unwrap_or("unknown service error").to_owned(),
            $sdk::error::SdkError::TimeoutError(_) => "timeout".to_owned(),
            $sdk::error::SdkError::DispatchFailure(_) => "unreachable".to_owned(),
            _ => "malformed response".to_owned(),
        };
        $crate::AwsError::new($service, message)
    }};
}
#[cfg(any(feature = "dynamodb", feature = "lambda", feature = "s3", feature = "secrets", feature = "sfn", feature = "sqs"))]
pub(crate) use describe;
