//! What Stripe's events change in the ledger and in subscriptions.

use oslira_domain::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;

use crate::error::DbError;
use crate::params::params;
use crate::session::AdminDb;

/// How the database handled an event.
#[derive(Debug, Deserialize)]
pub struct Applied {
    /// What was done.
    pub outcome: EventOutcome,
    /// The account that the event is about, if it is known.
    pub account_id: Option<AccountId>,
}

/// What was done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventOutcome {
    /// It was recorded with all its effects.
    Applied,
    /// It was recorded, and is not about our customers, prices or currency.
    Ignored,
    /// It had been recorded before.
    Duplicate,
}

impl AdminDb {
    /// Records an event and applies all its effects, once. `event` is what `apply_stripe_event` in `migrations/` expects.
    ///
    /// # Errors
    /// As any statement. Rule `OS404` while the account or the plan that the event is about is unknown: an event that names it may still
    /// arrive.
    pub async fn apply_stripe_event(&self, event: &Value) -> Result<Applied, DbError> {
        self.call("SELECT apply_stripe_event($1)", &params![Json(event)]).await
    }
}
