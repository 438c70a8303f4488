//! Leads whose profile may be refreshed, and the cost of the vendor calls that refresh it.

use jiff::Timestamp;
use oslira_domain::cache::Snapshot;
use oslira_domain::{AccountId, LeadId, Username};
use serde::Deserialize;
use tokio_postgres::types::Json;

use crate::error::DbError;
use crate::params::params;
use crate::session::{AdminDb, Claims, UserDb};
use crate::workflow::VendorCall;

/// A lead whose profile may be refreshed.
#[derive(Debug, Deserialize)]
pub struct RefreshableLead {
    /// The account that owns the lead, and that the limits of refreshes count for.
    pub account_id: AccountId,
    /// The lead's handle.
    pub username: Username,
    /// Whether the caller may write for that account.
    pub can_write: bool,
    /// When the lead's last analysis ended.
    pub last_analyzed_at: Option<Timestamp>,
    /// The profile at that analysis. `None` if there was none.
    pub seen: Option<Snapshot>,
}

impl UserDb {
    /// Reads a lead, if the caller may see it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn refreshable_lead(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        lead: LeadId,
    ) -> Result<Option<RefreshableLead>, DbError> {
        let sql = "SELECT jsonb_build_object('account_id', l.account_id, 'username', l.username, 'last_analyzed_at', l.last_analyzed_at,
                'can_write', EXISTS (SELECT 1 FROM caller_account(l.account_id) c WHERE c.can_spend),
                'seen', CASE WHEN coalesce(l.last_analyzed_at, l.first_analyzed_at) IS NOT NULL OR l.follower_count IS NOT NULL THEN jsonb_build_object('follower_count', l.follower_count,
                    'bio', coalesce(l.bio, ''), 'is_private', l.is_private, 'is_verified', l.is_verified) END)
            FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)";
        self.call(claims, sql, &params![account, lead]).await
    }

    /// Returns the caller's account: the one named, or the oldest membership. `None` if the caller is no member of it, or of any.
    ///
    /// # Errors
    /// As any statement.
    pub async fn caller_account(&self, claims: &Claims, account: Option<AccountId>) -> Result<Option<AccountId>, DbError> {
        self.call(claims, "SELECT to_jsonb(account_id) FROM caller_account($1)", &params![account]).await
    }
}

impl AdminDb {
    /// Records a vendor call that was made for an account outside of any run, once by its id.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_account_call(&self, account: AccountId, call: &VendorCall) -> Result<(), DbError> {
        self.execute("SELECT record_account_call($1, $2)", &params![account, Json(call)]).await
    }
}
