//! [`Credential`]: the value of a secret, cached, and fetched again when the service that it authenticates to refuses it.
//!
//! A value is kept for five minutes. Concurrent callers share one fetch. A refused value is fetched again at once, which is how a rotation
//! reaches running functions. The value comes from Secrets Manager in functions, and is fixed in tools and tests.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

/// How long a value is used without fetching it again.
const LIFETIME: Duration = Duration::from_mins(5);

/// A refused value is fetched again at most this often: a secret that holds a wrong value must not cause a fetch for every call.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// After a failed fetch, the next one starts no sooner than this: a missing secret, or a Secrets Manager that hangs, must not delay every
/// request.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Returns the time since `at` by the wall clock. A monotonic clock may stand still while an execution environment is frozen, so that a value of
/// yesterday would look new. A time in the future, after the clock was set back, counts as long ago.
pub fn age(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or(Duration::MAX)
}

/// Why a credential has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The secret does not exist.
    #[error("the secret {0} does not exist")]
    Missing(String),
    /// The secret cannot be fetched, or does not hold what it should. The text never contains the value.
    #[error("no credential: {0}")]
    Unavailable(String),
}

/// An error that says whether it means that the credential was refused.
pub trait Refusal {
    /// Whether a newly fetched credential may help.
    fn is_refusal(&self) -> bool;
}

type Fetching<T> = Pin<Box<dyn Future<Output = Result<T, CredentialError>> + Send>>;

/// The value of one secret. Clones share the cached value.
pub struct Credential<T> {
    fetch: Arc<dyn Fn() -> Fetching<T> + Send + Sync>,
    /// Locked during a fetch, so that concurrent callers wait for it instead of starting their own.
    cache: Arc<Mutex<Cache<T>>>,
}

impl<T> Clone for Credential<T> {
    fn clone(&self) -> Self {
        Self { fetch: Arc::clone(&self.fetch), cache: Arc::clone(&self.cache) }
    }
}

impl<T> fmt::Debug for Credential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

struct Cache<T> {
    value: Option<CachedValue<T>>,
    /// When and why the last fetch failed. Cleared by a fetch that succeeds.
    failure: Option<(SystemTime, CredentialError)>,
}

struct CachedValue<T> {
    value: Arc<T>,
    fetched_at: SystemTime,
    /// When the value was last fetched because the one before it was refused.
    renewed_at: Option<SystemTime>,
}

/// Why a value is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// For a call.
    Use,
    /// In the place of a value that was refused.
    Renewal,
}

impl<T> CachedValue<T> {
    /// Whether the value can be used without a fetch. A refused value is fetched again even if it has just been read, because it may have
    /// been rotated right after that, but not if it has just been renewed.
    fn satisfies(&self, need: Need) -> bool {
        match need {
            Need::Use => age(self.fetched_at) < LIFETIME,
            Need::Renewal => self.renewed_at.is_some_and(|at| age(at) < RENEWAL_PAUSE),
        }
    }
}

impl<T> Credential<T> {
    /// Makes a credential whose value comes from `fetch`, which is called when the value is first needed.
    pub fn new<F>(fetch: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, CredentialError>> + Send + 'static,
    {
        Self { fetch: Arc::new(move || Box::pin(fetch())), cache: Arc::new(Mutex::new(Cache { value: None, failure: None })) }
    }

    /// Makes a credential whose value never changes, for tools and tests.
    pub fn fixed(value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        Self::new(move || std::future::ready(Ok(value.clone())))
    }

    /// Returns the cached value, fetching it if there is none or it is too old. An old value is still returned when it cannot be fetched
    /// again: most likely it is still valid.
    ///
    /// # Errors
    /// Fails with [`CredentialError`] when there is no value and it cannot be fetched.
    pub async fn current(&self) -> Result<Arc<T>, CredentialError> {
        self.value_for(Need::Use).await
    }

    /// Fetches the value if there is none yet, before a call needs it. A failure is not remembered: the first call tries again.
    pub async fn warm_up(&self) {
        let mut cache = self.cache.lock().await;
        if cache.value.is_none()
            && let Ok(value) = (self.fetch)().await
        {
            let value = CachedValue { value: Arc::new(value), fetched_at: SystemTime::now(), renewed_at: None };
            *cache = Cache { value: Some(value), failure: None };
        }
    }

    /// Returns the value to use in the place of a refused one: fetched now, or within the last five seconds.
    ///
    /// # Errors
    /// Fails with [`CredentialError`] when it cannot be fetched.
    pub async fn renewed(&self) -> Result<Arc<T>, CredentialError> {
        self.value_for(Need::Renewal).await
    }

    /// Makes a call with the current value and, if the call is refused, makes it once more with a renewed value.
    ///
    /// # Errors
    /// Fails with the error of the last call, or with [`CredentialError`] when there is no value for it.
    pub async fn with<R, E, F>(&self, mut call: impl FnMut(Arc<T>) -> F) -> Result<R, E>
    where
        E: Refusal + From<CredentialError>,
        F: Future<Output = Result<R, E>>,
    {
        match call(self.current().await?).await {
            Err(error) if error.is_refusal() => call(self.renewed().await?).await,
            outcome => outcome,
        }
    }

    async fn value_for(&self, need: Need) -> Result<Arc<T>, CredentialError> {
        let mut cache = self.cache.lock().await;
        if let Some(cached) = cache.value.as_ref().filter(|cached| cached.satisfies(need)) {
            return Ok(Arc::clone(&cached.value));
        }
        let fetched = match &cache.failure {
            Some((at, error)) if age(*at) < FAILURE_PAUSE => Err(error.clone()),
            _ => (self.fetch)().await.inspect_err(|error| cache.failure = Some((SystemTime::now(), error.clone()))),
        };
        match (fetched, &cache.value) {
            (Ok(value), previous) => {
                let (value, fetched_at) = (Arc::new(value), SystemTime::now());
                let renewed_at = match need {
                    Need::Renewal => Some(fetched_at),
                    Need::Use => previous.as_ref().and_then(|previous| previous.renewed_at),
                };
                *cache = Cache { value: Some(CachedValue { value: Arc::clone(&value), fetched_at, renewed_at }), failure: None };
                Ok(value)
            }
            (Err(error), Some(old)) if need == Need::Use => {
                tracing::warn!(%error, "using an old credential");
                Ok(Arc::clone(&old.value))
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
