//! What the endpoints of the profile cache ask of the database.

use jiff::Timestamp;
use oslira_domain::cache::Snapshot;
use oslira_domain::{AccountId, LeadId, Username};
use serde::Deserialize;
use serde_json::json;
use tokio_postgres::types::{Json, Type};

use crate::error::DbError;
use crate::session::{AdminDb, Claims, UserDb};
use crate::workflow::VendorCall;

/// A lead whose profile may be refreshed.
#[derive(Debug, Deserialize)]
pub struct RefreshableLead {
    /// Whose it is, and who is limited.
    pub account_id: AccountId,
    /// Its handle.
    pub username: Username,
    /// Whether the caller may write for that account.
    pub can_write: bool,
    /// When its last analysis ended.
    pub last_analyzed_at: Option<Timestamp>,
    /// Its profile as that analysis saw it. `None` if none did.
    pub seen: Option<Snapshot>,
}

impl UserDb {
    /// The lead, if the caller may see it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn refreshable_lead(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        lead: LeadId,
    ) -> Result<Option<RefreshableLead>, DbError> {
        let rows = self
            .query(
                claims,
                "SELECT jsonb_build_object('account_id', l.account_id, 'username', l.username, 'last_analyzed_at', l.last_analyzed_at,
                        'can_write', EXISTS (SELECT 1 FROM caller_account(l.account_id) c WHERE c.can_spend),
                        'seen', CASE WHEN l.follower_count IS NOT NULL THEN jsonb_build_object('follower_count', l.follower_count,
                            'bio', coalesce(l.bio, ''), 'is_private', l.is_private, 'is_verified', l.is_verified) END)
                 FROM leads l WHERE l.id = $2 AND l.deleted_at IS NULL AND ($1::uuid IS NULL OR l.account_id = $1)",
                &[(&account.map(|id| id.0), Type::UUID), (&lead.0, Type::UUID)],
            )
            .await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<RefreshableLead>>(0)?.0)).transpose()
    }

    /// The account that the caller works for: the one named, or the oldest membership. `None` if there is no such.
    ///
    /// # Errors
    /// As any statement.
    pub async fn caller_account(&self, claims: &Claims, account: Option<AccountId>) -> Result<Option<AccountId>, DbError> {
        let rows = self.query(claims, "SELECT account_id FROM caller_account($1)", &[(&account.map(|id| id.0), Type::UUID)]).await?;
        rows.first().map(|row| Ok(AccountId(row.try_get(0)?))).transpose()
    }
}

impl AdminDb {
    /// Books a vendor call that was made for an account outside of any run. Booking it again changes nothing.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_account_call(&self, account: AccountId, call: &VendorCall) -> Result<(), DbError> {
        let params = [(&account.0 as &(dyn tokio_postgres::types::ToSql + Sync), Type::UUID), (&json!(call), Type::JSONB)];
        self.one("SELECT record_account_call($1, $2)", &params).await.map(drop)
    }
}
