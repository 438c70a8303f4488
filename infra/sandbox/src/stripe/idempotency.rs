//! `Idempotency-Key`: the first answer is kept for a day and given again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::form::Params;
use super::problem::Problem;

/// Stripe drops keys that are at least this old.
const KEPT: Duration = Duration::from_hours(24);
/// The longest key.
const LONGEST: usize = 255;

/// An answer as it was given first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// The `Request-Id` that it was first given under.
    pub(crate) request: String,
}

#[derive(Debug)]
struct Entry {
    path: String,
    params: Params,
    since: Instant,
    /// None while the first request is being worked on.
    answer: Option<Answer>,
}

/// All keys in use.
#[derive(Debug, Default, Clone)]
pub(crate) struct Keys(Arc<Mutex<HashMap<String, Entry>>>);

/// What a key leads to.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nobody had it: do the work under this claim.
    New(Claimed),
    /// It was answered before.
    Replay(Answer),
}

/// The right to work under a key. Without a kept answer the key is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    keys: Keys,
    key: String,
    answer: Option<Answer>,
}

impl Claimed {
    /// The work is done: even if the client has gone by then, the answer is there for its next try.
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
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Entry>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a key for a request, or finds what it led to.
    ///
    /// # Errors
    /// When it stands for another request, or for one that is being worked on.
    pub(crate) fn claim(&self, key: &str, path: &str, params: &Params) -> Result<Claim, Problem> {
        if key.is_empty() || key.len() > LONGEST {
            return Err(Problem::invalid(format!("An Idempotency-Key has 1 to {LONGEST} characters."), None, None));
        }
        self.with(|entries| {
            entries.retain(|_, entry| entry.since.elapsed() < KEPT);
            match entries.get(key) {
                Some(entry) if entry.path != path => {
                    let message = format!("The key '{key}' was first used for {}, and goes with that endpoint only.", entry.path);
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
    fn a_kept_answer_is_given_again_for_the_same_request_only() {
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
    fn a_request_that_was_refused_leaves_its_key_free() {
        let keys = Keys::default();
        drop(new(keys.claim("k", "/v1/customers", &params("email="))));
        drop(new(keys.claim("k", "/v1/customers", &params("email=a@example.com"))));
        keys.claim(&"k".repeat(256), "/v1/customers", &params("")).unwrap_err();
    }
}
