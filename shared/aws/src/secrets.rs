//! Secrets Manager as the source of credentials.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use oslira_credential::{Credential, CredentialError};
use serde::de::DeserializeOwned;

use crate::config::{Lazy, lazily};
use crate::error::describe;

/// The code of Secrets Manager's error for a secret that does not exist.
const NOT_FOUND: &str = "ResourceNotFoundException";

/// The secrets of one environment: `oslira/{environment}/{name}`, each a JSON object.
#[derive(Clone)]
pub struct Secrets {
    client: Lazy<Client>,
    environment: String,
}

impl Secrets {
    /// Returns the secrets of `environment`.
    pub fn new(config: &SdkConfig, environment: impl Into<String>) -> Self {
        Self { client: lazily(config, Client::new), environment: environment.into() }
    }

    /// Returns the credential in the secret `name`. Nothing is fetched until its value is needed.
    pub fn credential<T: DeserializeOwned + Send + 'static>(&self, name: &'static str) -> Credential<T> {
        let secrets = self.clone();
        Credential::new(move || {
            let secrets = secrets.clone();
            async move { secrets.fetch(name).await }
        })
    }

    /// Checks that the secret `name` can be read.
    ///
    /// # Errors
    /// Fails when it cannot.
    pub async fn ping(&self, name: &str) -> Result<(), CredentialError> {
        self.fetch::<serde::de::IgnoredAny>(name).await.map(drop)
    }

    async fn fetch<T: DeserializeOwned>(&self, name: &str) -> Result<T, CredentialError> {
        let id = format!("oslira/{}/{name}", self.environment);
        let response = self.client.get_secret_value().secret_id(&id).send().await.map_err(|error| {
            let error = describe!("secretsmanager", error, aws_sdk_secretsmanager);
            if error.message == NOT_FOUND {
                CredentialError::Missing(id.clone())
            } else {
                CredentialError::Unavailable(format!("{}: {id}: {}", error.service, error.message))
            }
        })?;
        // Without serde's own message, which may quote the value.
        let malformed = || CredentialError::Unavailable(format!("the secret {id} is not the JSON object expected"));
        serde_json::from_str(response.secret_string().ok_or_else(malformed)?).map_err(|_| malformed())
    }
}
