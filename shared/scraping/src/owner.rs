//! What an Actor run is made for.

use oslira_db::workflow::VendorCall;
use oslira_db::{AdminDb, DbError};
use oslira_domain::{AccountId, BatchId, RunId, RunStatus};
use oslira_vendors::{Apify, VendorError};

/// What an Actor run is made for: it is remembered there, its cost is recorded there, and it is aborted when its profiles are not needed
/// there any longer.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// A run that is processing.
    Run(&'a RunId),
    /// Runs of a batch that are pending. The cost is recorded in equal shares.
    Group {
        /// The batch.
        batch_id: &'a BatchId,
        /// The runs, in the order of the handles.
        run_ids: &'a [RunId],
    },
    /// An account, outside of any run. The Actor run is not remembered: a repeated request starts another.
    Account(AccountId),
}

impl Owner<'_> {
    /// Whether a repeated call waits for the Actor run of this one.
    pub(crate) const fn remembers(&self) -> bool {
        !matches!(self, Self::Account(_))
    }

    /// Remembers an Actor run unless another one is remembered already. Returns the one that is remembered, or `None` when its profiles are
    /// not needed any longer.
    pub(crate) async fn remember(&self, db: &AdminDb, id: &str) -> Result<Option<String>, DbError> {
        match self {
            Self::Run(run_id) => db.record_scrape_run(run_id, Some(id), None).await,
            Self::Group { batch_id, run_ids } => db.record_group_scrape_run(batch_id, run_ids, Some(id), None).await,
            Self::Account(_) => Ok(Some(id.to_owned())),
        }
    }

    /// Forgets an Actor run, if it is the one that is remembered.
    pub(crate) async fn forget(&self, db: &AdminDb, id: &str) -> Result<(), DbError> {
        match self {
            Self::Run(run_id) => db.record_scrape_run(run_id, None, Some(id)).await.map(drop),
            Self::Group { batch_id, run_ids } => db.record_group_scrape_run(batch_id, run_ids, None, Some(id)).await.map(drop),
            Self::Account(_) => Ok(()),
        }
    }

    /// Whether the profiles are still needed.
    pub(crate) async fn needs_profiles(&self, db: &AdminDb) -> Result<bool, DbError> {
        match self {
            Self::Run(run_id) => Ok(db.begin_task(run_id).await?.is_some_and(|state| state.status == RunStatus::Processing)),
            Self::Group { batch_id, run_ids } => Ok(!db.begin_group(batch_id, run_ids).await?.is_empty()),
            Self::Account(_) => Ok(true),
        }
    }

    /// Records the cost of an Actor run. Recording the same one again changes nothing.
    pub(crate) async fn record(&self, db: &AdminDb, call: &VendorCall) -> Result<(), DbError> {
        match self {
            Self::Run(run_id) => db.record_vendor_calls(run_id, std::slice::from_ref(call), None).await.map(drop),
            Self::Group { batch_id, run_ids } => db.record_group_scrape_cost(batch_id, run_ids, call).await.map(drop),
            Self::Account(account_id) => db.record_account_call(*account_id, call).await,
        }
    }

    /// Whether a failed start is recorded, without a cost, because an Actor run may exist nonetheless. For a run, the record explains a
    /// possible item on Apify's invoice. For an account, only a start without any response is recorded. A group's shares need the id of an
    /// Actor run.
    pub(crate) fn records_failed_start(&self, error: &VendorError) -> bool {
        Apify::may_have_started(error)
            && match self {
                Self::Run(_) => true,
                Self::Group { .. } => false,
                Self::Account(_) => matches!(error, VendorError::Timeout | VendorError::Transport(_)),
            }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_failed_start_is_recorded_where_it_may_have_cost_something() {
        let (run_id, batch_id) = (RunId::new(Uuid::nil()), BatchId::new(Uuid::nil()));
        let owners = [Owner::Run(&run_id), Owner::Group { batch_id: &batch_id, run_ids: &[] }, Owner::Account(AccountId(Uuid::nil()))];
        for (error, expected) in [
            (VendorError::Timeout, [true, false, true]),
            (VendorError::Overloaded(500), [true, false, false]),
            (VendorError::Invalid("x"), [true, false, false]),
            (VendorError::RateLimited { retry_after: None }, [false, false, false]),
            (VendorError::Unauthorized, [false, false, false]),
        ] {
            assert_eq!(owners.map(|owner| owner.records_failed_start(&error)), expected, "{error}");
        }
    }
}
