//! What every endpoint for users works with, made once an execution environment.

use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, SdkConfig, sdk_config};
use oslira_db::{DbError, UserDb};

use crate::adapter::Gateway;

/// Authentication, limits and the database as the caller.
#[derive(Clone)]
pub struct Environment {
    /// Authentication and limits.
    pub gateway: Gateway,
    /// The database as the caller.
    pub db: UserDb,
    /// For the vendors that only some endpoints need.
    pub secrets: Secrets,
    /// For the AWS clients that only some endpoints need.
    pub config: SdkConfig,
}

impl Environment {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn start() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config();
        let secrets = Secrets::from_env(&config)?;
        Ok(Self {
            gateway: Gateway::from_env(&config, &secrets)?,
            db: UserDb::new(secrets.fetcher("database", DbError::no_credential)),
            secrets,
            config,
        })
    }
}
