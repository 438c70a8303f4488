//! The consumer of the dead letters: groups that could not be started.

use oslira_aws::consumer::{Message, MessageError};
use oslira_aws::sdk_config;
use oslira_aws::secrets::Secrets;
use oslira_db::{AdminDb, DbError};
use oslira_domain::FailureCode;
use oslira_telemetry::count_error;

use crate::group::Group;

/// Ends the runs of groups that could not be started.
#[derive(Clone)]
pub struct DeadLetterConsumer {
    db: AdminDb,
}

impl DeadLetterConsumer {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, lambda_runtime::Error> {
        oslira_telemetry::init();
        let secrets = Secrets::from_env(&sdk_config())?;
        Ok(Self { db: AdminDb::new(secrets.fetcher("database-admin", DbError::no_credential)) })
    }
}

/// Fails those runs of the group that were not admitted, and so not charged. The others are processing or have ended, and end by themselves.
///
/// # Errors
/// [`MessageError`]; the message stays in the dead letters and is redelivered.
pub async fn fail_bulk_groups(message: Message, consumer: DeadLetterConsumer) -> Result<(), MessageError> {
    let group: Group = serde_json::from_str(&message.body).map_err(|error| MessageError::Poison(format!("no group: {error}")))?;
    tracing::Span::current().record("batch_id", group.batch_id.as_str());
    let failed = consumer.db.fail_pending(&group.batch_id, &group.run_ids, FailureCode::ScrapeFailed).await?;
    if failed > 0 {
        count_error("GROUP_FAILED", &[("batch_id", group.batch_id.as_str())]);
    }
    tracing::error!(failed, runs = group.run_ids.len(), "a group of a batch failed");
    Ok(())
}
