//! `Idempotency-Key`: a request that spends is carried out once, and a repeat of it gets the first response.
//!
//! The key is claimed together with the id of the request's work (a run, a batch, a purchase) before the work starts. A repeat that finds a
//! stored response returns it unchanged, `meta` included. A repeat that finds work whose process died carries on with the same work, which
//! is idempotent by its id. A request that is refused does not claim its key.

use oslira_db::UserDb;
use oslira_db::idempotency::{Claim, Key};
use oslira_domain::AccountId;

use crate::errors;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::request::{IdempotencyKey, Request};

/// The idempotency of one request. Without a key every request is its own.
#[derive(Debug)]
pub struct Idempotency<'a> {
    request: &'a Request,
    key: Option<IdempotencyKey>,
}

impl<'a> Idempotency<'a> {
    /// Reads the request's key.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a malformed key.
    pub fn of(request: &'a Request) -> Result<Self, Problem> {
        Ok(Self { request, key: request.idempotency_key()? })
    }

    /// Returns the key, for statements that look it up or claim it.
    pub fn key(&self) -> Option<Key<'_>> {
        self.key.as_ref().map(|key| Key { name: &key.key, request_hash: &key.hash })
    }

    /// Claims the key for work whose response is known before it starts, and stores that response with the claim.
    ///
    /// # Errors
    /// As any statement.
    pub async fn claim(&self, db: &UserDb, account: AccountId, work_id: &str, response: &Reply) -> Result<Claim, Problem> {
        match self.key() {
            Some(key) => Ok(db.claim_key(&self.request.caller.claims(), account, key, work_id, &self.stored(response)).await?),
            None => Ok(Claim::Claimed { work_id: work_id.to_owned(), answer: None }),
        }
    }

    /// Carries out the work that a claim leaves to this request, and returns the first response to all requests with its key. `work` takes
    /// the id of the work.
    ///
    /// Work that fails before its response is stored releases the key: the next repeat carries on with the same work.
    ///
    /// # Errors
    /// Those of `work`, and those of [`replay`](Self::replay).
    pub async fn once(
        &self,
        db: &UserDb,
        account: AccountId,
        claim: Claim,
        work: impl AsyncFnOnce(&str) -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let Claim::Claimed { work_id, answer } = claim else { return self.replay(claim) };
        let response = work(&work_id).await;
        let Some(key) = self.key() else { return response };
        if let Some(answer) = answer {
            return response.and_then(|_| Reply::replay(&answer));
        }
        let answer = response.as_ref().ok().map(|response| self.stored(response));
        if let Err(error) = db.settle_key(&self.request.caller.claims(), account, key, answer.as_deref()).await {
            // A repeat carries on with the same work once the claim is a minute old.
            tracing::warn!(%error, "the response was not stored with its idempotency key");
        }
        response.and_then(|response| answer.map_or(Ok(response), |answer| Reply::replay(&answer)))
    }

    /// Returns the response to a request that has no work to carry out.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` for a key that stands for another request; `IDEMPOTENCY_KEY_IN_USE` while the first request is being
    /// processed.
    pub fn replay(&self, claim: Claim) -> Result<Reply, Problem> {
        match claim {
            Claim::Replay { answer, .. } => Reply::replay(&answer),
            Claim::Mismatch => Err(Problem::of(&errors::IDEMPOTENCY_KEY_REUSED)),
            Claim::InProgress | Claim::Claimed { .. } => Err(Problem::of(&errors::IDEMPOTENCY_KEY_IN_USE)),
        }
    }

    fn stored(&self, response: &Reply) -> String {
        response.to_stored(&self.request.request_id, self.request.received_at)
    }
}
