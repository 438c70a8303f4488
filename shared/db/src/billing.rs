//! What Stripe's events do to the books.

use oslira_domain::AccountId;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::{Json, Type};

use crate::error::DbError;
use crate::session::AdminDb;

/// What became of an event.
#[derive(Debug, Deserialize)]
pub struct Applied {
    /// `applied`, `ignored`, or `duplicate` if it had been taken before.
    pub outcome: String,
    /// Whose it was.
    pub account_id: Option<AccountId>,
}

impl AdminDb {
    /// Takes an event with all its effects, once. `event` is what `apply_stripe_event` in `migrations/` expects.
    ///
    /// # Errors
    /// As any statement. Rule `OS404` while the account or the plan that it is about is unknown: it may be on its way.
    pub async fn apply_stripe_event(&self, event: &Value) -> Result<Applied, DbError> {
        let row = self.one("SELECT apply_stripe_event($1)", &[(event, Type::JSONB)]).await?;
        let row = row.ok_or_else(|| DbError::Unexpected("no row".to_owned()))?;
        Ok(row.try_get::<_, Json<Applied>>(0)?.0)
    }
}
