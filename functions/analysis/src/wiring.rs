//! What the handlers of this feature are configured with and work with.

use oslira_aws::progress::ProgressTable;
use oslira_db::UserDb;
use oslira_http::{AccessGuard, Endpoint, EndpointConfig};
use oslira_lambda::Init;
use serde::Deserialize;

/// What every handler here is configured with.
#[derive(Debug, Deserialize)]
pub struct Config {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// The table of running analyses.
    pub progress_table: String,
}

/// What a handler is configured with that starts or stops executions.
#[derive(Debug, Deserialize)]
pub struct ExecutionsConfig {
    /// What it has in common with the others.
    pub common: Config,
    /// The analysis state machine.
    pub state_machine_arn: String,
}

/// The dependencies of every handler here.
#[derive(Clone)]
pub struct Deps {
    /// Authentication and limits.
    pub guard: AccessGuard,
    /// The database as the caller.
    pub db: UserDb,
    /// The progress of running analyses.
    pub progress: ProgressTable,
}

impl Deps {
    /// Returns the dependencies that `config` names.
    pub fn new<C>(config: &Config, init: &Init<C>) -> Self {
        let Endpoint { guard, db } = Endpoint::new(&config.endpoint, init);
        Self { guard, db, progress: ProgressTable::new(&init.aws, &config.progress_table) }
    }
}
