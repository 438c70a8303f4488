//! Asks a model for one answer: the catalogue says whom, a second provider steps in when the first cannot, and an answer that is
//! not what was asked for is asked for once more.

use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_domain::{Call, MicroUsd, Tier, Username, assessment};
use reqwest::Client;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::models::{Model, Usage};
use crate::wire::{self, Reply};
use crate::{Catalogue, Effort, Prompt, Provider, VendorError, anthropic, chat, openai};

mod addresses;

/// An answer is some 10 KB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

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

/// Which of its APIs `OpenAI`, or whoever stands at its address, is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenAiApi {
    /// The Responses API.
    #[default]
    Responses,
    /// The Chat Completions API, which most other servers have instead.
    Chat,
}

/// A word that is the name of no API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("OpenAI has no API `{0}` here: `responses` or `chat`")]
pub struct UnknownApi(String);

impl FromStr for OpenAiApi {
    type Err = UnknownApi;

    fn from_str(text: &str) -> Result<Self, UnknownApi> {
        match text {
            "responses" => Ok(Self::Responses),
            "chat" => Ok(Self::Chat),
            other => Err(UnknownApi(other.to_owned())),
        }
    }
}

/// Where the providers are reached.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `OpenAI`, or a server that is compatible with it.
    pub openai: Endpoint,
    /// How it is spoken to.
    pub openai_api: OpenAiApi,
    /// The Messages API.
    pub anthropic: Endpoint,
}

/// The providers' keys. A provider without one is not asked.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// `OpenAI`'s, or that of the server in its place.
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
    /// Whom it is about.
    pub lead: Username,
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
    /// The try that gave it, which is not booked yet: answer and costs are best kept together.
    pub attempt: Attempt,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No provider could answer now, or there was no time left to ask; later one may.
    #[error("no provider could answer")]
    Retryable,
    /// A model declined.
    #[error("a model declined")]
    Refused,
    /// The answer was not what was asked for, twice.
    #[error("the answers were not what was asked for")]
    InvalidOutput,
    /// Asking again would not help: our request is wrong, or the money has run out.
    #[error("no provider accepts the request")]
    Rejected,
    /// The provider's key is wrong. Fetch it anew and ask again; if it is the same, ask without it.
    #[error("the key of {} was refused", .0.as_str())]
    Unauthorized(Provider),
    /// Whoever books the tries wants no further one.
    #[error("no further try was wanted")]
    Stopped,
}

/// Whether to try again after a try that gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// If there is reason to.
    Continue,
    /// Not for this question.
    Stop,
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

    /// Asks, until there is an answer or nothing more to try. No try begins that could not end before `ends`.
    ///
    /// Each try without an answer is handed to `book` as soon as it has ended and before the next begins: it may have cost money,
    /// whatever becomes of us.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        keys: &Keys,
        question: &Question,
        ends: Instant,
        book: impl AsyncFnMut(Attempt) -> Next,
    ) -> Result<Answer, AskError> {
        let mut tries = Tries { ends, book };
        self.first_answer(keys, question, &mut tries).await
    }

    /// The first provider's answer, or the second's when the first cannot give one.
    async fn first_answer<B: AsyncFnMut(Attempt) -> Next>(
        &self,
        keys: &Keys,
        question: &Question,
        tries: &mut Tries<B>,
    ) -> Result<Answer, AskError> {
        let (route, models) = self.catalogue.route(question.tier, question.call).ok_or(AskError::Rejected)?;
        let schema = assessment::schema(question.call, question.tier);
        let timeout = Duration::from_secs(route.timeout_seconds.into());
        let mut why = AskError::Rejected;
        for (name, model) in models {
            let Some(key) = keys.of(model.provider) else { continue };
            let max_output_tokens = route.max_output_tokens;
            let request = Request { model: name, effort: route.effort, max_output_tokens, question, schema: &schema };
            let asked = Asked { model, key, timeout: self.timeout_cap.map_or(timeout, |cap| cap.min(timeout)) };
            match self.twice(request, &asked, tries).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused) => return Err(AskError::Refused),
                Err(Failure::Truncated | Failure::Broken(_)) => return Err(AskError::InvalidOutput),
                Err(Failure::Stopped) => return Err(AskError::Stopped),
                Err(Failure::NoTime) => return Err(AskError::Retryable),
                Err(Failure::Vendor(error)) if error.is_unauthorized() => return Err(AskError::Unauthorized(model.provider)),
                Err(Failure::Vendor(error)) if error.is_retryable() => why = AskError::Retryable,
                Err(Failure::Vendor(_)) => {}
            }
        }
        Err(why)
    }

    /// One provider's answer: asked for once more if it is not what was asked for, with more room if it did not fit.
    async fn twice<B: AsyncFnMut(Attempt) -> Next>(
        &self,
        mut request: Request<'_>,
        asked: &Asked<'_>,
        tries: &mut Tries<B>,
    ) -> Result<Answer, Failure> {
        match self.once(&request, asked, tries).await {
            Err(Failure::Truncated) => request.max_output_tokens *= 2,
            Err(Failure::Broken(_)) => {}
            decided => return decided,
        }
        self.once(&request, asked, tries).await
    }

    /// One request, if there is time for it; booked here unless it succeeds.
    async fn once<B: AsyncFnMut(Attempt) -> Next>(
        &self,
        request: &Request<'_>,
        asked: &Asked<'_>,
        tries: &mut Tries<B>,
    ) -> Result<Answer, Failure> {
        let (started_at, clock) = (Timestamp::now(), Instant::now());
        if tries.ends.saturating_duration_since(clock) < asked.timeout {
            return Err(Failure::NoTime);
        }
        let Reading { usage, response_id, text } = self.send(request, asked).await;
        let result = text.and_then(|text| understood(request.question, &text));
        let attempt = Attempt {
            provider: asked.model.provider,
            model: request.model.to_owned(),
            status: match &result {
                Ok(_) => AttemptStatus::Success,
                Err(Failure::Vendor(VendorError::Timeout)) => AttemptStatus::Timeout,
                Err(_) => AttemptStatus::Error,
            },
            error: result.as_ref().err().map(ToString::to_string),
            input_tokens: usage.fresh_input + usage.cached_input + usage.cache_write,
            cached_input_tokens: usage.cached_input,
            cache_write_tokens: usage.cache_write,
            output_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            cost: asked.model.cost(&usage),
            duration_ms: i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX),
            started_at,
            response_id,
        };
        match result {
            Ok(output) => Ok(Answer { output, attempt }),
            Err(failure) => match (tries.book)(attempt).await {
                Next::Continue => Err(failure),
                Next::Stop => Err(Failure::Stopped),
            },
        }
    }

    async fn send(&self, request: &Request<'_>, asked: &Asked<'_>) -> Reading {
        let post = |endpoint: &Endpoint, path: &str, body: Value| {
            let post = self.http.post(format!("{}/{path}", endpoint.base_url)).headers(endpoint.headers.clone());
            post.bearer_auth(asked.key.expose_secret()).json(&body)
        };
        let (provider, api) = (asked.model.provider, self.endpoints.openai_api);
        let post = match (provider, api) {
            (Provider::OpenAi, OpenAiApi::Responses) => post(&self.endpoints.openai, "responses", openai::body(request)),
            (Provider::OpenAi, OpenAiApi::Chat) => post(&self.endpoints.openai, "chat/completions", chat::body(request)),
            (Provider::Anthropic, _) => {
                post(&self.endpoints.anthropic, "v1/messages", anthropic::body(request)).header("anthropic-version", anthropic::VERSION)
            }
        };
        let reply = match Reply::to(post, asked.timeout, MAX_ANSWER_BYTES).await {
            Ok(reply) => reply,
            Err(error) => return Reading::failed(error),
        };
        match (provider, api) {
            (Provider::OpenAi, OpenAiApi::Responses) => openai::read(&reply),
            (Provider::OpenAi, OpenAiApi::Chat) => chat::read(&reply),
            (Provider::Anthropic, _) => anthropic::read(&reply),
        }
    }
}

/// The answer in a model's text, if it is what was asked for.
fn understood(question: &Question, text: &str) -> Result<Value, Failure> {
    let answer: Value = wire::json(text.as_bytes()).ok_or_else(|| Failure::Broken("the text is not JSON".to_owned()))?;
    let fields = assessment::parse(question.call, question.tier, &answer).map_err(|error| Failure::Broken(error.to_string()))?;
    // It is sent as it is: a stranger's profile must not choose where it leads.
    if question.call == Call::Outreach && fields.values().any(|value| addresses::any(value, &question.lead)) {
        return Err(Failure::Broken("the message holds a link or somebody else's handle".to_owned()));
    }
    Ok(Value::Object(fields))
}

impl Keys {
    fn of(&self, provider: Provider) -> Option<&SecretString> {
        match provider {
            Provider::OpenAi => self.openai.as_ref(),
            Provider::Anthropic => self.anthropic.as_ref(),
        }
    }
}

/// What holds for every try at one question.
struct Tries<B> {
    ends: Instant,
    book: B,
}

/// Whom a request goes to.
struct Asked<'a> {
    model: &'a Model,
    key: &'a SecretString,
    timeout: Duration,
}

/// What every provider's request is made from.
pub(crate) struct Request<'a> {
    pub(crate) model: &'a str,
    pub(crate) effort: Effort,
    pub(crate) max_output_tokens: u32,
    pub(crate) question: &'a Question,
    pub(crate) schema: &'a Value,
}

/// What was read from a provider's answer, its costs even if there is no text.
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

/// Why a try gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Vendor(#[from] VendorError),
    #[error("the model declined")]
    Refused,
    #[error("the answer did not fit into its budget")]
    Truncated,
    #[error("{0}")]
    Broken(String),
    #[error("no time left for a try")]
    NoTime,
    #[error("no further try was wanted")]
    Stopped,
}

#[cfg(test)]
mod tests;
