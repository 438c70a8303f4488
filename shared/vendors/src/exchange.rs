//! One exchange with a model: the question, the request that a provider makes of it, and what is read from the provider's response.

use oslira_credential::{CredentialError, Refusal};
use oslira_domain::{Call, Tier, Username};
use serde_json::Value;

use crate::error::VendorError;
use crate::models::{Effort, Usage};
use crate::prompt::Prompt;

/// One question about a profile.
#[derive(Debug, Clone)]
pub struct Question {
    /// The tier of the analysis.
    pub tier: Tier,
    /// Which of the tier's questions.
    pub call: Call,
    /// The profile's handle.
    pub lead: Username,
    /// The text of the question.
    pub prompt: Prompt,
    /// Names the prompts that share a stable part, for the provider's cache: one for each business profile.
    pub cache_key: String,
    /// A pseudonym of the account, for the provider's abuse detection.
    pub safety_id: String,
}

/// A question as it is put to a model, from which each provider makes its own body.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    pub(crate) effort: Effort,
    pub(crate) max_output_tokens: u32,
    pub(crate) question: &'a Question,
    pub(crate) schema: &'a Value,
}

/// What was read from a provider's response. The usage is known even if there is no text.
pub(crate) struct Reading {
    pub(crate) usage: Usage,
    pub(crate) response_id: Option<String>,
    pub(crate) text: Result<String, Failure>,
}

impl Reading {
    pub(crate) fn failed(error: VendorError) -> Self {
        Self { usage: Usage::default(), response_id: None, text: Err(Failure::Vendor(error)) }
    }
}

/// Why an attempt has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Vendor(#[from] VendorError),
    #[error("the model declined")]
    Declined,
    #[error("the answer did not fit into its budget")]
    Truncated,
    #[error("{0}")]
    Malformed(String),
    #[error("no time is left for an attempt")]
    NoTime,
    #[error("no further attempt was allowed")]
    Stopped,
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self::Vendor(error.into())
    }
}

impl Refusal for Failure {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Vendor(error) if error.is_refusal())
    }
}
