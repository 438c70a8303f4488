//! The dependencies of the handlers of this feature, created once an execution environment.

use oslira_aws::MissingVariable;
use oslira_aws::executions::Executions;
use oslira_aws::progress::ProgressTable;
use oslira_db::UserDb;
use oslira_http::{Environment, Gateway};

/// The dependencies of every handler here.
#[derive(Clone)]
pub struct Deps {
    /// Authentication and limits.
    pub gateway: Gateway,
    /// The database as the caller.
    pub db: UserDb,
    /// The progress of live runs.
    pub progress: ProgressTable,
    environment: Environment,
}

impl Deps {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        let environment = Environment::start()?;
        let (gateway, db) = (environment.gateway.clone(), environment.db.clone());
        Ok(Self { gateway, db, progress: ProgressTable::from_env(&environment.config)?, environment })
    }

    /// Returns the state machine, for handlers that may start and stop executions.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn executions(&self) -> Result<Executions, MissingVariable> {
        Executions::from_env(&self.environment.config)
    }
}
