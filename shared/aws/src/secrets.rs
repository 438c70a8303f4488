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

use crate::error::describe;
use crate::{AwsError, MissingVariable, variable};

/// How long a value is trusted.
const LIFETIME: Duration = Duration::from_mins(5);

/// A refused credential is fetched anew at most this often: a secret that is simply wrong must not become a storm.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

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

/// A value, locked while it is being fetched.
type Slot = Arc<Mutex<Option<Kept>>>;

/// The secrets of one environment: `oslira/{environment}/{name}`.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    environment: String,
    slots: Arc<Mutex<HashMap<&'static str, Slot>>>,
}

impl Secrets {
    /// The loader for the environment in `ENVIRONMENT`.
    ///
    /// # Errors
    /// When the variable is missing.
    pub fn from_env(config: &SdkConfig) -> Result<Self, MissingVariable> {
        Ok(Self { client: Client::new(config), environment: variable("ENVIRONMENT")?, slots: Arc::default() })
    }

    /// The secret `name`, a JSON object, as `T`. `refresh` says that the last value was refused.
    ///
    /// # Errors
    /// When it cannot be fetched, or is not what `T` expects. The message never holds the value.
    pub async fn get<T: DeserializeOwned>(&self, name: &'static str, refresh: bool) -> Result<T, AwsError> {
        let slot = self.slots.lock().await.entry(name).or_default().clone();
        let mut kept = slot.lock().await;
        let text = match &*kept {
            Some(kept) if kept.serves(refresh) => kept.text.clone(),
            old => match self.fetch(name).await {
                Ok(text) => {
                    let fetched = Instant::now();
                    let refreshed = if refresh { Some(fetched) } else { old.as_ref().and_then(|old| old.refreshed) };
                    *kept = Some(Kept { text: text.clone(), fetched, refreshed });
                    text
                }
                // An old value is most likely still good; whoever is refused with it asks for a fresh one.
                Err(error) => match old {
                    Some(old) if !refresh => {
                        tracing::warn!(%error, "going on with an old secret");
                        old.text.clone()
                    }
                    _ => return Err(error),
                },
            },
        };
        serde_json::from_str(text.expose_secret())
            .map_err(|_| AwsError::new("secretsmanager", format!("secret {name} is not the JSON object expected")))
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
