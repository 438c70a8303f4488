//! The configuration of the SDK.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient, http_client_fn};
use serde::Deserialize;

/// What Lambda, or the local stack, sets for the SDK.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct AwsConfig {
    /// The region.
    pub aws_region: Option<String>,
    /// One endpoint for all services, as the local stack has it.
    pub aws_endpoint_url: Option<String>,
}

/// How long one attempt of a request may take. A connection that ended while its environment was frozen is only noticed by its silence: without
/// this limit the first attempt would use up the time of the whole operation, and none would be left for another one on a new connection.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2500);

/// Returns what all AWS clients of a function are made from. The SDK reads the credentials from the Lambda environment itself.
///
/// Put together by hand: the SDK's loader would link every other source of credentials (profiles, STS, SSO, metadata services) into each
/// binary and query some of them at each start.
pub fn sdk_config(config: &AwsConfig) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(Duration::from_secs(8))
        .build();
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .region(config.aws_region.clone().map(Region::new));
    builder.set_endpoint_url(config.aws_endpoint_url.clone());
    builder.build()
}

/// Returns the SDK's own client. Wrapped, because the SDK would otherwise read the system's certificates at the start, once for each
/// service.
fn http_client() -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
    http_client_fn(move |settings, components| client.http_connector(settings, components))
}

/// A service's client, made by the first request that needs it: making one takes longer than all the rest of a start.
pub(crate) type Lazy<Client> = Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>;

/// Makes a client now, before a request needs it.
pub(crate) fn make<Client>(client: &Lazy<Client>) {
    LazyLock::force(client);
}

pub(crate) fn lazily<Client>(config: &SdkConfig, make: impl FnOnce(&SdkConfig) -> Client + Send + 'static) -> Lazy<Client> {
    let config = config.clone();
    Arc::new(LazyLock::new(Box::new(move || make(&config))))
}
