//! Pages of rows, read with their total in one statement.

use jiff::Timestamp;
use oslira_domain::AccountId;
use serde::Deserialize;

/// Which rows of a list.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// How many rows.
    pub limit: i64,
    /// How many rows come before them.
    pub offset: i64,
    /// Only rows that existed at this time.
    pub as_of: Option<Timestamp>,
}

/// A page of rows.
#[derive(Debug, Deserialize)]
pub struct Listed<T> {
    /// The account that the rows belong to.
    pub account_id: AccountId,
    /// The rows.
    pub rows: Vec<T>,
    /// The number of rows on all pages.
    pub total: i64,
    /// When the list was read, by the database's clock.
    pub as_of: Timestamp,
}
