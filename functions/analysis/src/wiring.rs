//! What the handlers of this feature work with, made once an environment.

use oslira_aws::executions::Executions;
use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, SdkConfig, sdk_config};
use oslira_db::{DbError, UserDb};
use oslira_http::Gateway;

/// The dependencies of every handler here.
#[derive(Clone)]
pub struct Deps {
    /// Authentication and limits.
    pub gateway: Gateway,
    /// The database as the caller.
    pub db: UserDb,
    /// The quick view of running analyses.
    pub progress: ProgressTable,
    config: SdkConfig,
}

impl Deps {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub async fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config().await;
        let secrets = Secrets::from_env(&config)?;
        Ok(Self {
            gateway: Gateway::from_env(&config, &secrets)?,
            db: UserDb::new(secrets.fetcher("database", DbError::no_credential)),
            progress: ProgressTable::from_env(&config)?,
            config,
        })
    }

    /// The state machine, for the handlers that may start and stop executions.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn executions(&self) -> Result<Executions, MissingVariable> {
        Executions::from_env(&self.config)
    }
}
