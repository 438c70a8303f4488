//! The consumer of the dead letters: groups that could not be started.

use oslira_db::AdminDb;
use oslira_domain::FailureCode;
use oslira_lambda::queue::{Message, MessageError};
use oslira_telemetry::count_error;

use crate::group::Group;

/// Fails those runs of the group that were not admitted, and that were therefore never charged. The others are being processed or have
/// ended, and end by themselves.
///
/// # Errors
/// [`MessageError`]; the message stays in the dead-letter queue and is redelivered.
pub async fn fail_bulk_groups(message: Message, db: &AdminDb) -> Result<(), MessageError> {
    let group = Group::parse(&message.body)?;
    tracing::Span::current().record("batch_id", group.batch_id.as_str());
    let failed = db.fail_pending(&group.batch_id, &group.run_ids, FailureCode::ScrapeFailed).await?;
    if failed > 0 {
        count_error("GROUP_FAILED", &[("batch_id", group.batch_id.as_str())]);
    }
    tracing::error!(failed, runs = group.run_ids.len(), "a group of a batch failed");
    Ok(())
}
