use std::collections::VecDeque;
use std::sync::Mutex as Lock;

use super::*;

/// A secret whose fetches return what is scripted.
#[derive(Default)]
struct Secret {
    script: Lock<VecDeque<Result<&'static str, CredentialError>>>,
    fetches: Lock<usize>,
}

impl Secret {
    fn credential(self: &Arc<Self>) -> Credential<&'static str> {
        let secret = Arc::clone(self);
        Credential::new(move || {
            *secret.fetches.lock().unwrap() += 1;
            std::future::ready(secret.script.lock().unwrap().pop_front().unwrap())
        })
    }

    fn returns(&self, result: Result<&'static str, CredentialError>) {
        self.script.lock().unwrap().push_back(result);
    }

    fn fetches(&self) -> usize {
        *self.fetches.lock().unwrap()
    }
}

fn missing() -> CredentialError {
    CredentialError::Missing("oslira/test/stripe".to_owned())
}

fn long_ago() -> SystemTime {
    SystemTime::now() - LIFETIME
}

#[derive(Debug, PartialEq)]
enum CallError {
    Refused,
    NoCredential,
}

impl Refusal for CallError {
    fn is_refusal(&self) -> bool {
        *self == Self::Refused
    }
}

impl From<CredentialError> for CallError {
    fn from(_: CredentialError) -> Self {
        Self::NoCredential
    }
}

#[tokio::test]
async fn a_missing_secret_is_not_fetched_for_every_request() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Err(missing()));
    assert_eq!(credential.current().await, Err(missing()));
    assert_eq!(credential.current().await, Err(missing()));
    assert_eq!(credential.renewed().await, Err(missing()));
    assert_eq!(secret.fetches(), 1);
    credential.cache.lock().await.failure = Some((long_ago(), missing()));
    secret.returns(Ok("new"));
    assert_eq!(credential.current().await, Ok(Arc::new("new")));
    assert_eq!(credential.current().await, Ok(Arc::new("new")));
    assert_eq!(secret.fetches(), 2);
}

#[tokio::test]
async fn an_old_value_is_used_while_it_cannot_be_fetched_again_unless_it_was_refused() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Ok("old"));
    credential.current().await.unwrap();
    credential.cache.lock().await.value.as_mut().unwrap().fetched_at = long_ago();
    let timeout = || CredentialError::Unavailable("timeout".to_owned());
    secret.returns(Err(timeout()));
    assert_eq!(credential.current().await, Ok(Arc::new("old")));
    assert_eq!(credential.current().await, Ok(Arc::new("old")));
    assert_eq!(credential.renewed().await, Err(timeout()));
    assert_eq!(secret.fetches(), 2);
    credential.cache.lock().await.failure = None;
    secret.returns(Ok("new"));
    assert_eq!(credential.renewed().await, Ok(Arc::new("new")));
}

#[tokio::test]
async fn a_refused_call_is_made_once_more_with_a_renewed_value() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Ok("old"));
    secret.returns(Ok("new"));
    let call = |value: Arc<&'static str>| std::future::ready(if *value == "new" { Ok(()) } else { Err(CallError::Refused) });
    assert_eq!(credential.with(call).await, Ok(()));
    assert_eq!(credential.with(call).await, Ok(()));
    assert_eq!(secret.fetches(), 2);
}

#[tokio::test]
async fn a_value_that_stays_refused_is_fetched_at_most_every_five_seconds() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Ok("wrong"));
    secret.returns(Ok("wrong"));
    for _ in 0..3 {
        let refused: Result<(), _> = credential.with(|_| std::future::ready(Err(CallError::Refused))).await;
        assert_eq!(refused, Err(CallError::Refused));
    }
    assert_eq!(secret.fetches(), 2);
}

#[tokio::test]
async fn a_call_is_not_made_without_a_value() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Err(missing()));
    let outcome: Result<(), CallError> = credential.with(|_| async { unreachable!() }).await;
    assert_eq!(outcome, Err(CallError::NoCredential));
}

#[tokio::test]
async fn concurrent_callers_share_one_fetch() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Ok("value"));
    let copy = credential.clone();
    let (one, two) = tokio::join!(credential.current(), copy.current());
    assert_eq!((one, two), (Ok(Arc::new("value")), Ok(Arc::new("value"))));
    assert_eq!(secret.fetches(), 1);
}

#[tokio::test]
async fn lifetimes_are_those_of_the_wall_clock() {
    // An environment that was frozen for an hour has the value of an hour ago, whatever its monotonic clock says.
    assert!(age(SystemTime::now() - Duration::from_hours(1)) >= Duration::from_hours(1));
    assert_eq!(age(SystemTime::now() + Duration::from_hours(1)), Duration::MAX, "the clock was set back");
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Ok("old"));
    credential.current().await.unwrap();
    for at in [SystemTime::now() - LIFETIME, SystemTime::now() + Duration::from_hours(1)] {
        credential.cache.lock().await.value.as_mut().unwrap().fetched_at = at;
        secret.returns(Ok("new"));
        assert_eq!(credential.current().await, Ok(Arc::new("new")));
    }
}

#[tokio::test]
async fn a_value_that_is_fetched_during_init_serves_the_first_call() {
    let secret = Arc::new(Secret::default());
    let credential = secret.credential();
    secret.returns(Err(missing()));
    credential.warm_up().await;
    secret.returns(Ok("value"));
    assert_eq!(credential.current().await, Ok(Arc::new("value")), "the failure during init is forgotten");
    credential.warm_up().await;
    assert_eq!(secret.fetches(), 2);
    let credential = secret.credential();
    secret.returns(Ok("value"));
    credential.warm_up().await;
    credential.current().await.unwrap();
    assert_eq!(secret.fetches(), 3);
}
