//! What happens once in an execution environment, before its first invocation.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use oslira_aws::secrets::Secrets;
use oslira_aws::{AwsConfig, SdkConfig, sdk_config};
use oslira_credential::CredentialError;
use oslira_db::AdminDb;
use oslira_telemetry::Settings;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::{ConfigError, from_env};

/// What every function is configured with.
#[derive(Deserialize)]
struct Common {
    environment: String,
    log_level: Option<String>,
    aws_lambda_function_name: Option<String>,
    aws: AwsConfig,
}

/// What a function is wired from.
pub struct Init<C> {
    /// Its own configuration.
    pub config: C,
    /// What AWS clients are made from.
    pub aws: SdkConfig,
    /// The secrets of its environment.
    pub secrets: Secrets,
}

impl<C> Init<C> {
    /// Returns the database for the workflow, consumers and schedules.
    pub fn admin_db(&self) -> AdminDb {
        AdminDb::new(self.secrets.credential("database-admin"))
    }
}

/// Starts logging, registers Sentry, and reads the function's configuration.
///
/// Errors are sent to the project in the secret `sentry` (`dsn`), which is fetched with the first error only; without such a secret they
/// are only logged.
///
/// # Errors
/// Names the environment variable that is missing or malformed. The error is logged as well.
pub fn init<C: DeserializeOwned>() -> Result<Init<C>, ConfigError> {
    logged(|| {
        let common = start_logging()?;
        let aws = sdk_config(&common.aws);
        let secrets = Secrets::new(&aws, common.environment);
        register_sentry(&secrets);
        Ok(Init { config: from_env()?, aws, secrets })
    })
}

/// How long [`warm_up`] may take. Lambda allows ten seconds for the whole init.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Does `parts` before the first invocation: fetching secrets, opening connections, making clients. Init runs with the CPU of a whole core and
/// an invocation with a fraction of one, in which a first TLS connection takes hundreds of milliseconds.
///
/// Nothing depends on it. What fails, or is not done in time, is done by the first invocation that needs it.
pub async fn warm_up<'a>(parts: impl Future<Output = ()> + 'a) {
    // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
    let parts: Pin<Box<dyn Future<Output = ()> + 'a>> = Box::pin(parts);
    let _ = tokio::time::timeout(WARM_UP_TIMEOUT, parts).await;
}

/// Starts logging, for a function that has no dependencies: its binary carries neither an AWS client nor Sentry's.
///
/// # Errors
/// As [`init`].
pub fn init_logging() -> Result<(), ConfigError> {
    logged(start_logging).map(drop)
}

fn start_logging() -> Result<Common, ConfigError> {
    let common: Common = from_env()?;
    oslira_telemetry::init(Settings {
        environment: common.environment.clone(),
        function: common.aws_lambda_function_name.clone(),
        log_level: common.log_level.clone(),
    });
    Ok(common)
}

/// Logs why a function does not start.
fn logged<T>(start: impl FnOnce() -> Result<T, ConfigError>) -> Result<T, ConfigError> {
    start().inspect_err(|error| {
        oslira_telemetry::init(Settings::default());
        tracing::error!(%error, "init failed");
    })
}

/// The secret `sentry`.
#[derive(Deserialize)]
struct SentrySecret {
    dsn: SecretString,
}

fn register_sentry(secrets: &Secrets) {
    let sentry = secrets.credential::<SentrySecret>("sentry");
    oslira_telemetry::send_errors_to(Arc::new(move || {
        let sentry = sentry.clone();
        Box::pin(async move {
            match sentry.current().await {
                Ok(sentry) => Ok(Some(sentry.dsn.clone())),
                Err(CredentialError::Missing(_)) => Ok(None),
                Err(CredentialError::Unavailable(_)) => Err(()),
            }
        })
    }));
}
