//! What the schedules do, one bounded batch a call.

use oslira_domain::RunId;
use serde::Deserialize;

use crate::error::DbError;
use crate::params::params;
use crate::session::AdminDb;
use crate::workflow::Failure;

/// The tables whose rows are kept for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// 90 days.
    AiUsageLogs,
    /// 24 hours.
    IdempotencyKeys,
    /// 30 days after their deletion.
    Analyses,
    /// 30 days after their deletion.
    Leads,
    /// 30 days after their deletion.
    BusinessProfiles,
    /// Anonymized 30 days after their deletion: the row and its ledger stay.
    Accounts,
}

impl Retained {
    /// All tables, those that refer to others first.
    pub const IN_ORDER: [Self; 6] =
        [Self::AiUsageLogs, Self::IdempotencyKeys, Self::Analyses, Self::Leads, Self::BusinessProfiles, Self::Accounts];

    /// The table's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AiUsageLogs => "ai_usage_logs",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::Analyses => "analyses",
            Self::Leads => "leads",
            Self::BusinessProfiles => "business_profiles",
            Self::Accounts => "accounts",
        }
    }
}

/// What a batch of renewals did.
#[derive(Debug, Deserialize)]
pub struct Renewals {
    /// How many were locked. None: other transactions hold what is left, if anything.
    pub picked: u64,
    /// How many of them were still due.
    pub settled: u64,
    /// The credits that they were granted.
    pub credits: u64,
}

impl AdminDb {
    /// Renews up to `limit` free subscriptions that are due.
    ///
    /// # Errors
    /// As any statement.
    pub async fn renew_subscriptions(&self, limit: u32) -> Result<Renewals, DbError> {
        self.call("SELECT renew_subscriptions($1)", &params![limit]).await
    }

    /// Grants up to `limit` paid periods of Stripe's subscriptions the credits that they lack.
    ///
    /// # Errors
    /// As any statement.
    pub async fn settle_owed_periods(&self, limit: u32) -> Result<Renewals, DbError> {
        self.call("SELECT settle_owed_periods($1)", &params![limit]).await
    }

    /// Counts the free subscriptions that are due, and the paid periods that lack credits.
    ///
    /// # Errors
    /// As any statement.
    pub async fn renewable(&self) -> Result<(u64, u64), DbError> {
        let sql = "SELECT jsonb_build_array((SELECT count(*) FROM get_renewable_subscriptions()), (SELECT count(*) FROM owed_periods()))";
        self.call(sql, &[]).await
    }

    /// Returns the ids of Stripe's subscriptions whose period ended over three days ago without an event about them, oldest first.
    ///
    /// # Errors
    /// As any statement.
    pub async fn overdue_subscriptions(&self) -> Result<Vec<String>, DbError> {
        self.call("SELECT to_jsonb(ARRAY(SELECT * FROM overdue_subscriptions()))", &[]).await
    }

    /// Counts the rows of a table whose retention is over.
    ///
    /// # Errors
    /// As any statement.
    pub async fn count_expired(&self, table: Retained) -> Result<u64, DbError> {
        self.call("SELECT to_jsonb(count_expired($1))", &params![table.as_str()]).await
    }

    /// Removes up to `limit` of them. Returns how many.
    ///
    /// # Errors
    /// As any statement.
    pub async fn remove_expired(&self, table: Retained, limit: u32) -> Result<u64, DbError> {
        self.call("SELECT to_jsonb(remove_expired($1, $2))", &params![table.as_str(), limit]).await
    }

    /// Returns up to `limit` runs whose last step was too long ago, by id, after the one named.
    ///
    /// # Errors
    /// As any statement.
    pub async fn stuck_runs(&self, after: &str, limit: u32) -> Result<Vec<RunId>, DbError> {
        self.call("SELECT to_jsonb(ARRAY(SELECT * FROM stuck_runs($1, $2)))", &params![after, limit]).await
    }

    /// Fails and refunds a run that is stuck. `None` for one that has moved or ended since.
    ///
    /// # Errors
    /// As any statement.
    pub async fn end_stuck_run(&self, run_id: &RunId) -> Result<Option<Failure>, DbError> {
        self.call("SELECT end_stuck_run($1)", &params![run_id]).await
    }
}
