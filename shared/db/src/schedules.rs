//! What schedules do, one bounded batch a call.

use oslira_domain::RunId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

use crate::error::DbError;
use crate::session::{AdminDb, Param};
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
    /// Emptied 30 days after their deletion: row and books stay.
    Accounts,
}

impl Retained {
    /// All, those that refer to others first.
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
    /// How many were taken up. None: what is left, if anything, is held by others.
    pub picked: u64,
    /// How many of them were still due.
    pub settled: u64,
    /// The credits that they were given.
    pub credits: u64,
}

fn limited(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

fn number(value: i64) -> Result<u64, DbError> {
    u64::try_from(value).map_err(|_| DbError::Unexpected("a negative count".to_owned()))
}

impl AdminDb {
    async fn row(&self, sql: &str, params: &[Param<'_>]) -> Result<Row, DbError> {
        self.one(sql, params).await?.ok_or_else(|| DbError::Unexpected("no row".to_owned()))
    }

    pub(crate) async fn document<T: DeserializeOwned>(&self, sql: &str, params: &[Param<'_>]) -> Result<T, DbError> {
        Ok(self.row(sql, params).await?.try_get::<_, Json<T>>(0)?.0)
    }

    /// Renews up to `limit` free subscriptions that are due.
    ///
    /// # Errors
    /// As any statement.
    pub async fn renew_subscriptions(&self, limit: u32) -> Result<Renewals, DbError> {
        self.document("SELECT renew_subscriptions($1)", &[(&limited(limit), Type::INT4)]).await
    }

    /// Grants up to `limit` paid periods of Stripe's subscriptions what they lack.
    ///
    /// # Errors
    /// As any statement.
    pub async fn settle_owed_periods(&self, limit: u32) -> Result<Renewals, DbError> {
        self.document("SELECT settle_owed_periods($1)", &[(&limited(limit), Type::INT4)]).await
    }

    /// How many free subscriptions are due, and how many paid periods lack credits.
    ///
    /// # Errors
    /// As any statement.
    pub async fn renewable(&self) -> Result<(u64, u64), DbError> {
        let sql = "SELECT (SELECT count(*) FROM get_renewable_subscriptions()), (SELECT count(*) FROM owed_periods())";
        let row = self.row(sql, &[]).await?;
        Ok((number(row.try_get(0)?)?, number(row.try_get(1)?)?))
    }

    /// Stripe's subscriptions whose period ended over three days ago without news of them, by their ids, oldest first.
    ///
    /// # Errors
    /// As any statement.
    pub async fn overdue_subscriptions(&self) -> Result<Vec<String>, DbError> {
        let rows = self.query("SELECT * FROM overdue_subscriptions()", &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// How many rows of a table have outlived their retention.
    ///
    /// # Errors
    /// As any statement.
    pub async fn count_expired(&self, table: Retained) -> Result<u64, DbError> {
        number(self.row("SELECT count_expired($1)", &[(&table.as_str(), Type::TEXT)]).await?.try_get(0)?)
    }

    /// Removes up to `limit` of them. Answers how many.
    ///
    /// # Errors
    /// As any statement.
    pub async fn remove_expired(&self, table: Retained, limit: u32) -> Result<u64, DbError> {
        let params: [Param<'_>; 2] = [(&table.as_str(), Type::TEXT), (&limited(limit), Type::INT4)];
        number(self.row("SELECT remove_expired($1, $2)", &params).await?.try_get(0)?)
    }

    /// Up to `limit` runs that have rested too long between two steps, by id, after the one named.
    ///
    /// # Errors
    /// As any statement.
    pub async fn stuck_runs(&self, after: &str, limit: u32) -> Result<Vec<RunId>, DbError> {
        let params: [Param<'_>; 2] = [(&after, Type::TEXT), (&limited(limit), Type::INT4)];
        let rows = self.query("SELECT * FROM stuck_runs($1, $2)", &params).await?;
        let ids = rows.iter().map(|row| {
            let id: &str = row.try_get(0)?;
            id.parse().map_err(|_| DbError::Unexpected("a malformed run id".to_owned()))
        });
        ids.collect()
    }

    /// Fails and refunds a run that is stuck. `None` for one that has moved or ended meanwhile.
    ///
    /// # Errors
    /// As any statement.
    pub async fn end_stuck_run(&self, run_id: &RunId) -> Result<Option<Failure>, DbError> {
        let row = self.row("SELECT end_stuck_run($1)", &[(&run_id.as_str(), Type::TEXT)]).await?;
        Ok(row.try_get::<_, Option<Json<Failure>>>(0)?.map(|failure| failure.0))
    }
}
