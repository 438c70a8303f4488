//! Keys under which a repeated request is recognised.

use oslira_domain::AccountId;
use serde::Deserialize;
use tokio_postgres::types::Type;

use crate::error::DbError;
use crate::session::{Claims, Param, UserDb};

/// What became of a claim.
#[derive(Debug, Deserialize)]
pub struct Claim {
    /// `claimed`, `replay`, `mismatch` or `in_progress`.
    pub outcome: String,
    /// What identifies the work that the key stands for.
    pub work_id: Option<String>,
    /// The first answer, to be repeated.
    pub answer: Option<String>,
}

impl UserDb {
    /// Claims a key (with the hash of its request) together with the answer that its work will have.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn claim_key(
        &self,
        claims: &Claims,
        account: AccountId,
        key: (&str, &str),
        work_id: &str,
        answer: &str,
    ) -> Result<Claim, DbError> {
        let params: [Param<'_>; 5] =
            [(&account.0, Type::UUID), (&key.0, Type::TEXT), (&key.1, Type::TEXT), (&work_id, Type::TEXT), (&answer, Type::TEXT)];
        self.call(claims, "SELECT claim_idempotency_key($1, $2, $3, $4, $5)", &params).await
    }

    /// Ends the work of a key with its answer; without one the next repetition goes on with the same work at once.
    ///
    /// # Errors
    /// As any statement.
    pub async fn settle_key(&self, claims: &Claims, account: AccountId, key: &str, answer: Option<&str>) -> Result<(), DbError> {
        let params: [Param<'_>; 3] = [(&account.0, Type::UUID), (&key, Type::TEXT), (&answer, Type::TEXT)];
        self.query(claims, "SELECT settle_idempotency_key($1, $2, $3)", &params).await.map(drop)
    }
}
