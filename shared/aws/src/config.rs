//! The SDK's configuration and the function's own.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient, http_client_fn};

/// An environment variable that the function cannot run without.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {0} is not set")]
pub struct MissingVariable(pub &'static str);

/// The value of an environment variable.
///
/// # Errors
/// Names the variable if it is absent or empty: a misconfigured function must not start.
pub fn variable(name: &'static str) -> Result<String, MissingVariable> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or(MissingVariable(name))
}

/// Credentials, region and endpoint from the Lambda environment; one for all clients of a function.
///
/// Put together by hand: the SDK's loader would bring every other place where credentials may be (profiles, STS, SSO, metadata services) into
/// each binary and ask some of them at each start.
pub fn sdk_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(2)).operation_timeout(Duration::from_secs(8)).build();
    let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .region(given("AWS_REGION").map(Region::new));
    config.set_endpoint_url(given("AWS_ENDPOINT_URL"));
    config.build()
}

/// The SDK's own client. Wrapped, because the SDK would otherwise have it read the system's certificates at the start, once for each service.
fn http_client() -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
    http_client_fn(move |settings, components| client.http_connector(settings, components))
}

/// A service's client. Making one takes longer than all the rest of a start, so that is left to the first request that needs it.
pub(crate) type Lazy<Client> = Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>;

pub(crate) fn lazily<Client>(config: &SdkConfig, make: impl FnOnce(&SdkConfig) -> Client + Send + 'static) -> Lazy<Client> {
    let config = config.clone();
    Arc::new(LazyLock::new(Box::new(move || make(&config))))
}
