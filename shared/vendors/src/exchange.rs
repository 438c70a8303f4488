//! One exchange with a model: the question, the request that a provider makes of it, and why it may have no answer.

use jiff::Timestamp;
use oslira_credential::{CredentialError, Refusal};
use oslira_domain::{BusinessContext, Call, Metrics, Profile, Tier, Username};
use serde_json::Value;

use crate::error::VendorError;
use crate::models::{Effort, OutputLimit};
use crate::prompt::{Prompt, prompt};

/// One question about a profile.
#[derive(Debug, Clone)]
pub struct Question {
    /// The tier of the analysis.
    pub tier: Tier,
    /// Which of the tier's questions.
    pub call: Call,
    /// The profile's handle.
    pub lead: Username,
    /// The business: a message may name its own host names.
    pub business: BusinessContext,
    /// The text of the question.
    pub prompt: Prompt,
    /// Names the prompts that share a stable part, for the provider's cache: one for each business profile.
    pub cache_key: String,
    /// A pseudonym of the account, for the provider's abuse detection.
    pub safety_id: String,
}

impl Question {
    /// Returns the question `call` about a profile, for a business. `cache_key` and `safety_id` as in the fields.
    pub fn new(
        call: Call,
        tier: Tier,
        business: BusinessContext,
        profile: &Profile,
        now: Timestamp,
        cache_key: String,
        safety_id: String,
    ) -> Self {
        let prompt = prompt(call, tier, &business, profile, &Metrics::of(profile, now), now);
        Self { tier, call, lead: profile.username.clone(), business, prompt, cache_key, safety_id }
    }
}

/// A question as it is put to a model, from which each provider makes its own body.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    /// `None` if the request does not mention it.
    pub(crate) effort: Option<Effort>,
    pub(crate) max_output_tokens: u32,
    pub(crate) limit: OutputLimit,
    pub(crate) question: &'a Question,
    pub(crate) schema: &'a Value,
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
    #[error("aborted, because the run has ended")]
    Aborted,
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
