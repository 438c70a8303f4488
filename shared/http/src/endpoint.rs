//! The dependencies of every endpoint for users, created once in an execution environment.

use oslira_db::UserDb;
use oslira_lambda::{ConfigError, Init, init};

use crate::config::EndpointConfig;
use crate::guard::AccessGuard;

/// The dependencies of an endpoint.
#[derive(Clone)]
pub struct Endpoint {
    /// Authentication and limits.
    pub guard: AccessGuard,
    /// The database as the caller.
    pub db: UserDb,
}

impl Endpoint {
    /// Initializes a function that needs nothing else.
    ///
    /// # Errors
    /// Fails with the name of the environment variable that is missing or malformed.
    pub fn init() -> Result<Self, ConfigError> {
        let init = init::<EndpointConfig>()?;
        Ok(Self::new(&init.config, &init))
    }

    /// Returns the dependencies of an endpoint with a configuration of its own.
    pub fn new<C>(config: &EndpointConfig, Init { aws, secrets, .. }: &Init<C>) -> Self {
        let db = UserDb::new(secrets.credential("database"));
        Self { guard: AccessGuard::new(config, aws, secrets, db.clone()), db }
    }
}
