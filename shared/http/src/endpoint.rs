//! What every endpoint for users works with, made once in an execution environment.

use oslira_db::UserDb;
use oslira_lambda::{ConfigError, Init, init};
use serde::Deserialize;

use crate::guard::AccessGuard;

/// What every endpoint for users is configured with.
#[derive(Debug, Clone, Deserialize)]
pub struct EndpointConfig {
    /// The Supabase project whose Auth signs the users' tokens.
    pub supabase_url: String,
    /// The table of the rate limits' counters.
    pub rate_limits_table: String,
}

/// Authentication, limits and the database as the caller.
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
    /// Names the environment variable that is missing or malformed.
    pub fn init() -> Result<Self, ConfigError> {
        let init = init::<EndpointConfig>()?;
        Ok(Self::new(&init.config, &init))
    }

    /// Returns the dependencies of an endpoint with a configuration of its own.
    pub fn new<C>(config: &EndpointConfig, Init { aws, secrets, .. }: &Init<C>) -> Self {
        Self { guard: AccessGuard::new(config, aws, secrets), db: UserDb::new(secrets.credential("database")) }
    }
}
