//! How attempts end: as an answer, or as an error with what it cost.

use jiff::Timestamp;
use oslira_credential::CredentialError;
use oslira_domain::MicroUsd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::IntoStaticStr;

use crate::error::VendorError;
use crate::models::Provider;

/// An answer that fits its schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The question's fields, tidied.
    pub output: Value,
    /// The attempt that returned it. It is not recorded yet, so that the caller can record answer and costs together.
    pub attempt: Attempt,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum AttemptStatus {
    /// With a usable answer.
    Success,
    /// Without a usable answer, which may have had a cost nonetheless.
    Error,
    /// Without a response in time.
    Timeout,
}

impl AttemptStatus {
    /// Returns the value in the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One attempt at one provider, as it is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The provider.
    pub provider: Provider,
    /// The model.
    pub model: String,
    /// How it ended.
    pub status: AttemptStatus,
    /// Why it did not succeed, without any text of the profile.
    pub error: Option<String>,
    /// All input tokens, cached or not.
    pub input_tokens: i64,
    /// The part of the input that was read from a cache.
    pub cached_input_tokens: i64,
    /// The part of the input that was written to a cache.
    pub cache_write_tokens: i64,
    /// All output tokens, reasoning included.
    pub output_tokens: i64,
    /// The part of the output that was reasoning.
    pub reasoning_tokens: i64,
    /// What it cost. `None` if unknown: the provider may have charged a response that did not arrive.
    pub cost: Option<MicroUsd>,
    /// How long it took.
    pub duration_ms: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// The provider's id of the response.
    pub response_id: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No provider could answer, or there was no time left to try. A later call may succeed.
    #[error("no provider could answer")]
    Unavailable,
    /// A model declined.
    #[error("a model declined")]
    Declined,
    /// The answers of a provider did not fit their schema, twice, and no other provider could answer.
    #[error("the answers did not fit their schema")]
    InvalidOutput,
    /// No provider accepts the request: it is wrong, or the keys or the money for it are.
    #[error("no provider accepts the request")]
    Rejected,
    /// The caller allowed no further attempt, or aborted one.
    #[error("no further attempt was allowed")]
    Stopped,
    /// There is no key of any provider. A later call may find one.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// What to do after an attempt without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again, if another attempt may succeed.
    Continue,
    /// Give up.
    Stop,
}

/// What the providers without an answer have in common.
#[derive(Default)]
pub(super) struct Failures {
    retryable: bool,
    rejected: bool,
    /// A provider answered, and its answer stayed invalid.
    pub(super) invalid: bool,
    credential: Option<CredentialError>,
}

impl Failures {
    pub(super) fn add(&mut self, provider: Provider, error: VendorError) {
        match error {
            VendorError::Credential(error) => {
                tracing::warn!(provider = provider.as_str(), %error, "no key of a provider");
                self.credential = Some(error);
            }
            VendorError::Unauthorized => {
                tracing::error!(provider = provider.as_str(), "the provider refuses its key");
                self.rejected = true;
            }
            error if error.is_retryable() => self.retryable = true,
            _ => self.rejected = true,
        }
    }
}

impl From<Failures> for ModelError {
    fn from(failures: Failures) -> Self {
        match failures {
            Failures { retryable: true, .. } => Self::Unavailable,
            Failures { invalid: true, .. } => Self::InvalidOutput,
            Failures { rejected: false, credential: Some(error), .. } => Self::Credential(error),
            _ => Self::Rejected,
        }
    }
}
