//! Secrets Manager: one loader for every secret of an environment.
//!
//! Values are kept for five minutes; several callers at once cause one fetch; when a vendor or the database refuses a
//! credential, the caller asks for a fresh one, which is how a rotation reaches running functions.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::AwsError;
use crate::config::{Lazy, lazily};
use crate::error::describe;

/// How long a value is trusted.
const LIFETIME: Duration = Duration::from_mins(5);

/// A refused credential is fetched anew at most this often: a secret that is simply wrong must not become a storm.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// After a fetch that failed, the next is tried no sooner: a secret that is missing, or a Secrets Manager that hangs, must not make every
/// request wait for it.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// A fetched value.
struct Kept {
    text: SecretString,
    fetched: Instant,
    /// When it was last fetched because it had been refused.
    refreshed: Option<Instant>,
}

impl Kept {
    /// Whether the value will do. One that was refused is fetched anew unless that was just done: not unless it was just read, for
    /// it may have been rotated right after that.
    fn serves(&self, refused: bool) -> bool {
        if refused { self.refreshed.is_some_and(|at| at.elapsed() < REFRESH_PAUSE) } else { self.fetched.elapsed() < LIFETIME }
    }
}

/// What is known of a secret.
#[derive(Default)]
struct Known {
    kept: Option<Kept>,
    /// When and why the last fetch failed, if it did.
    failed: Option<(Instant, String)>,
}

impl Known {
    /// The value, fetched if need be. `refused` says that the last one was.
    async fn text<F: Future<Output = Result<SecretString, AwsError>>>(
        &mut self,
        refused: bool,
        fetch: impl FnOnce() -> F,
    ) -> Result<SecretString, AwsError> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.serves(refused)) {
            return Ok(kept.text.clone());
        }
        let fetched = match &self.failed {
            Some((at, why)) if at.elapsed() < FAILURE_PAUSE => Err(AwsError::new("secretsmanager", why.clone())),
            _ => fetch().await.inspect_err(|error| self.failed = Some((Instant::now(), error.message.clone()))),
        };
        match (fetched, &self.kept) {
            (Ok(text), old) => {
                let fetched = Instant::now();
                let refreshed = if refused { Some(fetched) } else { old.as_ref().and_then(|old| old.refreshed) };
                *self = Self { kept: Some(Kept { text: text.clone(), fetched, refreshed }), failed: None };
                Ok(text)
            }
            // An old value is most likely still good; whoever is refused with it asks for a fresh one.
            (Err(error), Some(old)) if !refused => {
                tracing::warn!(%error, "going on with an old secret");
                Ok(old.text.clone())
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// A value, locked while it is being fetched.
type Slot = Arc<Mutex<Known>>;

/// The secrets of one environment: `oslira/{environment}/{name}`.
#[derive(Clone)]
pub struct Secrets {
    client: Lazy<Client>,
    environment: String,
    slots: Arc<Mutex<HashMap<&'static str, Slot>>>,
}

impl Secrets {
    /// Returns the secrets of `environment`.
    pub fn new(config: &SdkConfig, environment: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), environment: environment.into(), slots: Arc::default() }
    }

    /// The secret `name`, a JSON object, as `T`. `refresh` says that the last value was refused.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what `T` expects. The message never holds the value.
    pub async fn get<T: DeserializeOwned>(&self, name: &'static str, refresh: bool) -> Result<T, AwsError> {
        let slot = self.slots.lock().await.entry(name).or_default().clone();
        let mut known = slot.lock().await;
        let text = known.text(refresh, || self.fetch(name)).await?;
        serde_json::from_str(text.expose_secret())
            .map_err(|_| AwsError::new("secretsmanager", format!("secret {name} is not the JSON object expected")))
    }

    /// Forgets every value: whoever acts on a change of the secrets must not work with what they were.
    pub async fn forget(&self) {
        self.slots.lock().await.clear();
    }

    async fn fetch(&self, name: &str) -> Result<SecretString, AwsError> {
        let id = format!("oslira/{}/{name}", self.environment);
        let answer = self.client.get_secret_value().secret_id(&id).send().await.map_err(|error| {
            let error = describe!("secretsmanager", error, aws_sdk_secretsmanager);
            AwsError::new(error.service, format!("{id}: {}", error.message))
        })?;
        answer.secret_string.map(SecretString::from).ok_or_else(|| AwsError::new("secretsmanager", format!("{id} is binary")))
    }
}

/// Fetches one secret; `true` asks for a fresh one because the last was refused.
pub type Fetcher<T, E> = Arc<dyn Fn(bool) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send>> + Send + Sync>;

impl Secrets {
    /// A fetcher of `name`, for clients that know when their credential was refused, with the error that they speak.
    pub fn fetcher<T, E>(&self, name: &'static str, unavailable: fn(AwsError) -> E) -> Fetcher<T, E>
    where
        T: DeserializeOwned + Send + 'static,
        E: 'static,
    {
        let secrets = self.clone();
        Arc::new(move |refresh| {
            let secrets = secrets.clone();
            Box::pin(async move { secrets.get(name, refresh).await.map_err(unavailable) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for the value with a fetch that answers `answer`. Answers the value and whether it was fetched.
    async fn ask(known: &mut Known, refused: bool, answer: Result<&str, &str>) -> (Result<String, String>, bool) {
        let mut fetched = false;
        let fetch = || {
            fetched = true;
            let answer = answer.map(SecretString::from).map_err(|why| AwsError::new("secretsmanager", why));
            async move { answer }
        };
        let text = known.text(refused, fetch).await;
        (text.map(|text| text.expose_secret().to_owned()).map_err(|error| error.message), fetched)
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(LIFETIME).unwrap()
    }

    #[tokio::test]
    async fn a_missing_secret_is_not_asked_for_by_every_request() {
        let mut known = Known::default();
        let missing = || Err("ResourceNotFoundException".to_owned());
        assert_eq!(ask(&mut known, false, Err("ResourceNotFoundException")).await, (missing(), true));
        assert_eq!(ask(&mut known, false, Ok("new")).await, (missing(), false));
        assert_eq!(ask(&mut known, true, Ok("new")).await, (missing(), false));
        known.failed = known.failed.map(|(_, why)| (long_ago(), why));
        assert_eq!(ask(&mut known, false, Ok("new")).await, (Ok("new".to_owned()), true));
        assert_eq!(ask(&mut known, false, Ok("newer")).await, (Ok("new".to_owned()), false));
    }

    #[tokio::test]
    async fn an_old_secret_serves_while_a_new_one_cannot_be_fetched_unless_it_was_refused() {
        let mut known = Known::default();
        ask(&mut known, false, Ok("old")).await.0.unwrap();
        known.kept.as_mut().unwrap().fetched = long_ago();
        assert_eq!(ask(&mut known, false, Err("timeout")).await, (Ok("old".to_owned()), true));
        assert_eq!(ask(&mut known, false, Ok("new")).await, (Ok("old".to_owned()), false));
        assert_eq!(ask(&mut known, true, Ok("new")).await, (Err("timeout".to_owned()), false));
        known.failed = None;
        assert_eq!(ask(&mut known, true, Ok("new")).await, (Ok("new".to_owned()), true));
    }
}
