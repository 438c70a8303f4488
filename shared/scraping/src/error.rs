//! Why there are no profiles.

use oslira_db::DbError;
use oslira_vendors::{ActorRunStatus, VendorError};

/// Why an Actor run brought no profiles.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The owner does not need the profiles any longer. An Actor run that was started is aborted.
    #[error("the profiles are not needed any longer")]
    NotNeeded,
    /// The Actor run ended without success. It is recorded and forgotten.
    #[error("the Actor run {}", ending(*.0))]
    Unsuccessful(ActorRunStatus),
    /// The Actor run did not end, or its items were not read, before the deadline.
    #[error("the Actor run took too long")]
    Deadline,
    /// Apify cannot be called, or rejects the call.
    #[error(transparent)]
    Vendor(#[from] VendorError),
    /// The Actor run cannot be remembered or recorded.
    #[error(transparent)]
    Database(#[from] DbError),
}

const fn ending(status: ActorRunStatus) -> &'static str {
    match status {
        ActorRunStatus::Running => "is running",
        ActorRunStatus::Succeeded => "succeeded",
        ActorRunStatus::Failed => "failed",
        ActorRunStatus::TimedOut => "timed out",
        ActorRunStatus::Aborted => "was aborted",
    }
}
