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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lambda_http::Body;
    use oslira_credential::{Credential, CredentialError};
    use oslira_domain::UserId;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::reply::render;
    use crate::request::Caller;

    const ACCOUNT: AccountId = AccountId(Uuid::nil());

    fn request(key: Option<&str>) -> Request {
        let builder = key.into_iter().fold(http::Request::post("/"), |builder, key| builder.header("idempotency-key", key));
        let caller = Caller { user_id: UserId(Uuid::nil()), requested_account: None };
        let inner = builder.body(Body::Empty).unwrap();
        Request { caller, request_id: "r1".to_owned(), received_at: Timestamp::UNIX_EPOCH, inner }
    }

    /// A database that cannot be reached.
    fn no_database() -> UserDb {
        UserDb::new(Credential::new(|| std::future::ready(Err(CredentialError::Unavailable("none in tests".to_owned())))))
    }

    fn response(number: i32) -> Reply {
        Reply::accepted(&json!({ "number": number })).unwrap()
    }

    fn body(outcome: Result<Reply, Problem>) -> String {
        match render(outcome, "r2", Timestamp::MAX).into_body() {
            Body::Text(text) => text,
            _ => String::new(),
        }
    }

    #[tokio::test]
    async fn a_response_stored_with_the_claim_is_the_response_to_every_request() {
        let request = request(Some("key"));
        let idempotency = Idempotency::of(&request).unwrap();
        let stored = idempotency.stored(&response(1));
        let claim = Claim::Claimed { work_id: "first".to_owned(), answer: Some(stored.clone()) };
        let mut started = Vec::new();
        let work = async |work_id: &str| {
            started.push(work_id.to_owned());
            Ok(response(2))
        };
        let outcome = idempotency.once(&no_database(), ACCOUNT, claim, work).await;
        assert_eq!((body(outcome), started), (body(Reply::replay(&stored)), vec!["first".to_owned()]));
    }

    #[tokio::test]
    async fn a_response_that_cannot_be_stored_is_sent_as_it_would_be_stored() {
        let request = request(Some("key"));
        let idempotency = Idempotency::of(&request).unwrap();
        let claim = Claim::Claimed { work_id: "first".to_owned(), answer: None };
        let outcome = idempotency.once(&no_database(), ACCOUNT, claim, async |_: &str| Ok(response(1))).await;
        assert_eq!(body(outcome), body(Reply::replay(&idempotency.stored(&response(1)))));
    }

    #[tokio::test]
    async fn without_a_key_the_database_is_not_involved() {
        let request = request(None);
        let idempotency = Idempotency::of(&request).unwrap();
        let claim = idempotency.claim(&no_database(), ACCOUNT, "own", &response(1)).await.unwrap();
        assert_eq!(claim, Claim::Claimed { work_id: "own".to_owned(), answer: None });
        let outcome = idempotency.once(&no_database(), ACCOUNT, claim, async |_: &str| Ok(response(1))).await;
        assert_eq!(body(outcome), body(Ok(response(1))));
    }

    #[tokio::test]
    async fn failed_work_fails_the_request() {
        let request = request(Some("key"));
        let idempotency = Idempotency::of(&request).unwrap();
        for answer in [None, Some(idempotency.stored(&response(1)))] {
            let claim = Claim::Claimed { work_id: "first".to_owned(), answer };
            let work = async |_: &str| Err(Problem::unavailable("Step Functions"));
            let problem = idempotency.once(&no_database(), ACCOUNT, claim, work).await.unwrap_err();
            assert_eq!(problem.code(), "SERVICE_UNAVAILABLE");
        }
    }

    #[test]
    fn a_request_without_work_gets_the_first_response_or_the_reason() {
        let request = request(Some("key"));
        let idempotency = Idempotency::of(&request).unwrap();
        let stored = idempotency.stored(&response(1));
        let replay = Claim::Replay { work_id: "first".to_owned(), answer: stored.clone() };
        assert_eq!(body(idempotency.replay(replay)), body(Reply::replay(&stored)));
        assert_eq!(idempotency.replay(Claim::Mismatch).unwrap_err().code(), "IDEMPOTENCY_KEY_REUSED");
        let in_use = idempotency.replay(Claim::InProgress).unwrap_err();
        assert_eq!((in_use.code(), in_use.retry_after), ("IDEMPOTENCY_KEY_IN_USE", Some(1)));
    }
}
