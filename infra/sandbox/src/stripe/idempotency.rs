//! `Idempotency-Key`: the first response is kept for a day and replayed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::form::Params;
use super::problem::Problem;

/// The time for which Stripe keeps a key.
const KEPT: Duration = Duration::from_hours(24);
/// The largest length of a key.
const MAX_LENGTH: usize = 255;

/// The first response of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// The `Request-Id` of the first request.
    pub(crate) request: String,
}

#[derive(Debug)]
struct Entry {
    path: String,
    params: Params,
    since: Instant,
    /// `None` while the first request is processed.
    answer: Option<Answer>,
}

/// All keys in use.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys(Arc<Mutex<HashMap<String, Entry>>>);

/// The result of claiming a key.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The key is new: the caller performs the request under this claim.
    New(Claimed),
    /// The key has a response, which is replayed.
    Replay(Answer),
}

/// A claimed key. Dropping it without a kept response frees the key.
#[derive(Debug)]
pub(crate) struct Claimed {
    keys: Keys,
    key: String,
    answer: Option<Answer>,
}

impl Claimed {
    /// Keeps the response for the client's next attempt, even if the client has disconnected.
    pub(crate) fn keep(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let answer = self.answer.take();
        self.keys.with(|entries| match (entries.get_mut(&self.key), answer) {
            (Some(entry), Some(answer)) => entry.answer = Some(answer),
            _ => {
                entries.remove(&self.key);
            }
        });
    }
}

impl Keys {
    fn with<T>(&self, edit: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        edit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Claims a key for a request, or returns the response that it has.
    ///
    /// # Errors
    /// Fails when the key belongs to another request or to one that is processed now.
    pub(crate) fn claim(&self, key: &str, path: &str, params: &Params) -> Result<Claim, Problem> {
        if key.is_empty() || key.len() > MAX_LENGTH {
            return Err(Problem::invalid(format!("An Idempotency-Key has 1 to {MAX_LENGTH} characters."), None, None));
        }
        self.with(|entries| {
            entries.retain(|_, entry| entry.since.elapsed() < KEPT);
            match entries.get(key) {
                Some(entry) if entry.path != path => {
                    let message = format!("The key '{key}' was first used for {}, and can be used with that endpoint only.", entry.path);
                    Err(Problem::idempotency(message))
                }
                Some(entry) if entry.params != *params => {
                    Err(Problem::idempotency(format!("The key '{key}' was first used with other parameters.")))
                }
                Some(Entry { answer: Some(answer), .. }) => Ok(Claim::Replay(answer.clone())),
                Some(_) => Err(Problem::key_in_use(key)),
                None => {
                    let entry = Entry { path: path.to_owned(), params: params.clone(), since: Instant::now(), answer: None };
                    entries.insert(key.to_owned(), entry);
                    Ok(Claim::New(Claimed { keys: self.clone(), key: key.to_owned(), answer: None }))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(form: &str) -> Params {
        Params::parse(&[form.as_bytes()]).unwrap()
    }

    fn new(claim: Result<Claim, Problem>) -> Claimed {
        match claim {
            Ok(Claim::New(claimed)) => claimed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kept_answer_is_replayed_for_the_same_request_only() {
        let keys = Keys::default();
        let mut claimed = new(keys.claim("k", "/v1/customers", &params("a=1&b=2")));
        let twin = keys.claim("k", "/v1/customers", &params("a=1&b=2")).unwrap_err();
        assert_eq!((twin.status, twin.code.as_deref()), (409, Some("idempotency_key_in_use")));
        let answer = Answer { status: 200, body: b"{}".to_vec(), request: "req_1".to_owned() };
        claimed.keep(answer.clone());
        drop(claimed);
        assert!(matches!(keys.claim("k", "/v1/customers", &params("b=2&a=1")), Ok(Claim::Replay(kept)) if kept == answer));
        for (path, form) in [("/v1/customers", "a=2"), ("/v1/refunds", "a=1&b=2")] {
            let problem = keys.claim("k", path, &params(form)).unwrap_err();
            assert_eq!((problem.status, &*problem.kind), (400, "idempotency_error"));
        }
    }

    #[test]
    fn a_rejected_request_leaves_its_key_unused() {
        let keys = Keys::default();
        drop(new(keys.claim("k", "/v1/customers", &params("email="))));
        drop(new(keys.claim("k", "/v1/customers", &params("email=a@example.com"))));
        keys.claim(&"k".repeat(256), "/v1/customers", &params("")).unwrap_err();
    }
}
