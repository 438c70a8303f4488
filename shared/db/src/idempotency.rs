//! Idempotency keys: a request that spends is carried out once, and a repeat of it gets the first response.
//!
//! A key belongs to a user and an account, and stands for one request, which its hash identifies. It is claimed together with the id of
//! the request's work (a run, a batch, a purchase), so that a repeat after the process died carries on with the same work.

use oslira_domain::AccountId;
use serde::Deserialize;

use crate::error::DbError;
use crate::params::params;
use crate::session::{Claims, UserDb};

/// A key as its client chose it, and the hash of the request that it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// 1 to 255 characters.
    pub name: &'a str,
    /// SHA-256 of method, path and body, in hexadecimal digits.
    pub request_hash: &'a str,
}

/// What the database decides about a request and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Claim {
    /// The work is this request's to carry out.
    Claimed {
        /// The id of the work: the one of an earlier request if its process died.
        work_id: String,
        /// The response, if it is stored already.
        #[serde(default)]
        answer: Option<String>,
    },
    /// The work is done, or under way for certain.
    Replay {
        /// The id of the work.
        work_id: String,
        /// The first response.
        answer: String,
    },
    /// The key stands for another request.
    Mismatch,
    /// The first request is still being processed.
    InProgress,
}

impl Claim {
    /// Returns whether the work remains to be carried out.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Claimed { .. })
    }
}

impl UserDb {
    /// Claims a key together with the id of its work and the response to its request, which is stored before the work starts.
    ///
    /// A stored response therefore does not prove that the work has started: a repeat claims it again, with the first id and response.
    ///
    /// # Errors
    /// As any statement. `OS429` beyond the number or the size of the responses that a user may store in a day.
    pub async fn claim_key(
        &self,
        claims: &Claims,
        account: AccountId,
        key: Key<'_>,
        work_id: &str,
        answer: &str,
    ) -> Result<Claim, DbError> {
        let sql = "SELECT claim_idempotency_key($1, $2, $3, $4, $5)";
        let claim = self.call(claims, sql, &params![account, key.name, key.request_hash, work_id, answer]).await?;
        Ok(match claim {
            Claim::Claimed { work_id, .. } => Claim::Claimed { work_id, answer: Some(answer.to_owned()) },
            Claim::Replay { work_id, answer } => Claim::Claimed { work_id, answer: Some(answer) },
            refused @ (Claim::Mismatch | Claim::InProgress) => refused,
        })
    }

    /// Stores the response to the request that claimed a key. `None` releases the claim: the next repeat carries on with the same work at
    /// once.
    ///
    /// # Errors
    /// As any statement.
    pub async fn settle_key(&self, claims: &Claims, account: AccountId, key: Key<'_>, answer: Option<&str>) -> Result<(), DbError> {
        self.execute(claims, "SELECT settle_idempotency_key($1, $2, $3)", &params![account, key.name, answer]).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_claim_holds_what_belongs_to_its_outcome() {
        let claim = |document: Value| from_value::<Claim>(document).ok();
        let claimed = Claim::Claimed { work_id: "run".to_owned(), answer: None };
        assert_eq!(claim(json!({ "outcome": "claimed", "work_id": "run" })), Some(claimed));
        let replay = Claim::Replay { work_id: "run".to_owned(), answer: "first".to_owned() };
        assert_eq!(claim(json!({ "outcome": "replay", "work_id": "run", "answer": "first" })), Some(replay));
        assert_eq!(claim(json!({ "outcome": "mismatch", "account_id": "ignored" })), Some(Claim::Mismatch));
        for impossible in [json!({ "outcome": "replay", "work_id": "run" }), json!({ "outcome": "claimed" }), json!({ "outcome": "lost" })]
        {
            assert_eq!(claim(impossible.clone()), None, "{impossible}");
        }
    }
}
