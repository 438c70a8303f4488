//! Gets the answer to a question from a model. The catalogue says which model answers; a second provider is used when the first cannot
//! answer, and an answer that does not fit its schema is requested once more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_credential::{Credential, CredentialError, Refusal};
use oslira_domain::{Call, MicroUsd, assessment};
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

use crate::error::VendorError;
use crate::exchange::{Failure, Question, Reading, Request};
use crate::models::{Catalogue, Model, Provider};
use crate::wire::{self, Reply};
use crate::{anthropic, chat, openai};

mod addresses;

/// An answer has about 10 KB.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// The address of a provider.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `OpenAI`: up to and including `/v1`. Anthropic: without it.
    pub base_url: String,
}

impl Endpoint {
    /// Makes an endpoint.
    pub fn new(base_url: impl Into<String>) -> Self {
        let base_url: String = base_url.into();
        Self { base_url: base_url.trim_end_matches('/').to_owned() }
    }
}

/// The API that is used at the address of `OpenAI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownApi, parse_err_fn = unknown_api)]
pub enum OpenAiApi {
    /// The Responses API.
    #[default]
    Responses,
    /// The Chat Completions API, which is the only one of most compatible servers.
    Chat,
}

/// The name of an API that the client does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown OpenAI API `{0}`: expected `responses` or `chat`")]
pub struct UnknownApi(String);

fn unknown_api(name: &str) -> UnknownApi {
    UnknownApi(name.to_owned())
}

/// The addresses of the providers.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `OpenAI`, or a server that is compatible with it.
    pub openai: Endpoint,
    /// The API to use there.
    pub openai_api: OpenAiApi,
    /// Anthropic's Messages API.
    pub anthropic: Endpoint,
}

/// The secrets `openai` and `anthropic`.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelSecret {
    /// The API key.
    pub api_key: SecretString,
    /// Further headers, such as the key of a gateway in between.
    #[serde(default, deserialize_with = "headers")]
    pub headers: HeaderMap,
}

/// Reads headers from an object of strings. Their values are marked as sensitive, so that no debug output shows them.
fn headers<'de, D: serde::Deserializer<'de>>(source: D) -> Result<HeaderMap, D::Error> {
    use serde::de::Error;
    let named = std::collections::BTreeMap::<String, String>::deserialize(source)?;
    let header = |(name, value): (String, String)| {
        let name = name.parse::<HeaderName>().map_err(|_| D::Error::custom("the name of a header is malformed"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| D::Error::custom("the value of a header is malformed"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    named.into_iter().map(header).collect()
}

/// The providers' credentials. A provider whose secret does not exist is not used.
#[derive(Debug, Clone)]
pub struct ModelSecrets {
    /// `OpenAI`'s, or that of the server in its place.
    pub openai: Credential<ModelSecret>,
    /// Anthropic's.
    pub anthropic: Credential<ModelSecret>,
}

impl ModelSecrets {
    fn of(&self, provider: Provider) -> &Credential<ModelSecret> {
        match provider {
            Provider::OpenAi => &self.openai,
            Provider::Anthropic => &self.anthropic,
        }
    }
}

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
    /// What it cost.
    pub cost: MicroUsd,
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
    /// The answer did not fit its schema, twice.
    #[error("the answers did not fit their schema")]
    InvalidOutput,
    /// No provider accepts the request: it is wrong, or the keys or the money for it are.
    #[error("no provider accepts the request")]
    Rejected,
    /// The caller allowed no further attempt.
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

/// The client of all models.
#[derive(Debug, Clone)]
pub struct ModelClient {
    http: Client,
    endpoints: Endpoints,
    secrets: ModelSecrets,
    catalogue: Catalogue,
    timeout_cap: Option<Duration>,
}

impl ModelClient {
    /// Makes a client of the models in `catalogue`. `timeout_cap` shortens the catalogue's timeouts.
    pub fn new(http: Client, endpoints: Endpoints, secrets: ModelSecrets, catalogue: Catalogue, timeout_cap: Option<Duration>) -> Self {
        Self { http, endpoints, secrets, catalogue, timeout_cap }
    }

    /// Fetches the first provider's key, so that the first question does not wait for it. A failure is that question's to report.
    pub async fn prepare(&self) {
        let _ = self.secrets.openai.current().await;
    }

    /// Returns the answer to a question. No attempt starts that could not end before `deadline`.
    ///
    /// Each attempt without an answer is passed to `record` when it has ended and before the next one starts: it may have had a cost.
    ///
    /// # Errors
    /// Fails with [`ModelError`].
    pub async fn answer(
        &self,
        question: &Question,
        deadline: Instant,
        record: impl AsyncFnMut(Attempt) -> Next,
    ) -> Result<Answer, ModelError> {
        let (route, models) = self.catalogue.route(question.tier, question.call).ok_or(ModelError::Rejected)?;
        let schema = assessment::schema(question.call, question.tier);
        let timeout = Duration::from_secs(route.timeout_seconds.into());
        let timeout = self.timeout_cap.map_or(timeout, |cap| cap.min(timeout));
        let mut attempts = Attempts { deadline, record };
        let mut failures = Failures::default();
        for (name, model) in models {
            let request =
                Request { model: name, effort: route.effort, max_output_tokens: route.max_output_tokens, question, schema: &schema };
            let secret = self.secrets.of(model.provider);
            let mut outcome = self.answer_with(secret.current().await, model, timeout, &request, &mut attempts).await;
            if outcome.as_ref().is_err_and(Refusal::is_refusal) {
                outcome = self.answer_with(secret.renewed().await, model, timeout, &request, &mut attempts).await;
            }
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(Failure::Declined) => return Err(ModelError::Declined),
                Err(Failure::Truncated | Failure::Malformed(_)) => return Err(ModelError::InvalidOutput),
                Err(Failure::Stopped) => return Err(ModelError::Stopped),
                Err(Failure::NoTime) => return Err(ModelError::Unavailable),
                Err(Failure::Vendor(error)) => failures.add(model.provider, error),
            }
        }
        Err(failures.into())
    }

    async fn answer_with<R: AsyncFnMut(Attempt) -> Next>(
        &self,
        secret: Result<Arc<ModelSecret>, CredentialError>,
        model: &Model,
        timeout: Duration,
        request: &Request<'_>,
        attempts: &mut Attempts<R>,
    ) -> Result<Answer, Failure> {
        let secret = secret?;
        let target = Target { model, secret: &secret, timeout };
        self.answer_of(request.clone(), &target, attempts).await
    }

    /// Returns one provider's answer. It is requested once more if it does not fit its schema, with twice the budget if it was truncated.
    async fn answer_of<R: AsyncFnMut(Attempt) -> Next>(
        &self,
        mut request: Request<'_>,
        target: &Target<'_>,
        attempts: &mut Attempts<R>,
    ) -> Result<Answer, Failure> {
        match self.attempt(&request, target, attempts).await {
            Err(Failure::Truncated) => request.max_output_tokens *= 2,
            Err(Failure::Malformed(_)) => {}
            decided => return decided,
        }
        self.attempt(&request, target, attempts).await
    }

    /// Makes one request, if there is time for it, and records it unless it succeeds.
    async fn attempt<R: AsyncFnMut(Attempt) -> Next>(
        &self,
        request: &Request<'_>,
        target: &Target<'_>,
        attempts: &mut Attempts<R>,
    ) -> Result<Answer, Failure> {
        let (started_at, clock) = (Timestamp::now(), Instant::now());
        if attempts.deadline.saturating_duration_since(clock) < target.timeout {
            return Err(Failure::NoTime);
        }
        let Reading { usage, response_id, text } = self.send(request, target).await;
        let result = text.and_then(|text| parse(request.question, &text));
        let attempt = Attempt {
            provider: target.model.provider,
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
            cost: target.model.cost(&usage),
            duration_ms: i64::try_from(clock.elapsed().as_millis()).unwrap_or(i64::MAX),
            started_at,
            response_id,
        };
        match result {
            Ok(output) => Ok(Answer { output, attempt }),
            Err(failure) => match (attempts.record)(attempt).await {
                Next::Continue => Err(failure),
                Next::Stop => Err(Failure::Stopped),
            },
        }
    }

    async fn send(&self, request: &Request<'_>, target: &Target<'_>) -> Reading {
        let post = |endpoint: &Endpoint, path: &str, body: Value| {
            let post = self.http.post(format!("{}/{path}", endpoint.base_url)).headers(target.secret.headers.clone());
            post.bearer_auth(target.secret.api_key.expose_secret()).json(&body)
        };
        let (provider, api) = (target.model.provider, self.endpoints.openai_api);
        let post = match (provider, api) {
            (Provider::OpenAi, OpenAiApi::Responses) => post(&self.endpoints.openai, "responses", openai::body(request)),
            (Provider::OpenAi, OpenAiApi::Chat) => post(&self.endpoints.openai, "chat/completions", chat::body(request)),
            (Provider::Anthropic, _) => {
                post(&self.endpoints.anthropic, "v1/messages", anthropic::body(request)).header("anthropic-version", anthropic::VERSION)
            }
        };
        let reply = match Reply::to(post, target.timeout, MAX_RESPONSE_BYTES).await {
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

/// Returns the answer in a model's text, if it fits its schema.
fn parse(question: &Question, text: &str) -> Result<Value, Failure> {
    let answer: Value = wire::json(text.as_bytes()).ok_or_else(|| Failure::Malformed("the text is not JSON".to_owned()))?;
    let fields = assessment::parse(question.call, question.tier, &answer).map_err(|error| Failure::Malformed(error.to_string()))?;
    // The message is sent as it is: a scraped profile must not decide where it leads.
    if question.call == Call::Outreach && fields.values().any(|value| addresses::any(value, &question.lead)) {
        return Err(Failure::Malformed("the message contains a link or another person's handle".to_owned()));
    }
    Ok(Value::Object(fields))
}

/// What limits the attempts at one question.
struct Attempts<R> {
    deadline: Instant,
    record: R,
}

/// Where a request goes.
struct Target<'a> {
    model: &'a Model,
    secret: &'a ModelSecret,
    timeout: Duration,
}

/// What the providers without an answer have in common.
#[derive(Default)]
struct Failures {
    retryable: bool,
    rejected: bool,
    credential: Option<CredentialError>,
}

impl Failures {
    fn add(&mut self, provider: Provider, error: VendorError) {
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
            Failures { rejected: false, credential: Some(error), .. } => Self::Credential(error),
            _ => Self::Rejected,
        }
    }
}

#[cfg(test)]
mod tests;
