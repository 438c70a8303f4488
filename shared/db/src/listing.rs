//! Pages of rows, read with their total in one statement.

use jiff::Timestamp;
use oslira_domain::AccountId;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::error::DbError;

/// Which rows of a list.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// How many.
    pub limit: i64,
    /// After how many.
    pub offset: i64,
    /// Only rows that existed then.
    pub as_of: Option<Timestamp>,
}

/// A page of rows.
#[derive(Debug)]
pub struct Listed<T> {
    /// Whose.
    pub account_id: AccountId,
    /// The rows.
    pub rows: Vec<T>,
    /// How many there are on all pages.
    pub total: i64,
    /// When this was read, by the database's clock.
    pub as_of: Timestamp,
}

/// Reads the one row of a list: `account_id` (null: the caller has no such account), `rows`, `total`, `as_of`.
pub(crate) fn listed<T: DeserializeOwned>(rows: &[Row]) -> Result<Option<Listed<T>>, DbError> {
    let row = rows.first().ok_or_else(|| DbError::Unexpected("no row".to_owned()))?;
    let Some(account) = row.try_get::<_, Option<Uuid>>("account_id")? else { return Ok(None) };
    Ok(Some(Listed {
        account_id: AccountId(account),
        rows: row.try_get::<_, Json<Vec<T>>>("rows")?.0,
        total: row.try_get("total")?,
        as_of: row.try_get("as_of")?,
    }))
}
