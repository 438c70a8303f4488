//! Gets the answer to a question from a model. The catalogue says which model answers; a second provider is used when the first cannot
//! answer, and an answer that does not fit its schema is requested once more, then from the second provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_credential::{CredentialError, Refusal};
use oslira_domain::assessment;
use reqwest::Client;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::watch;

pub use self::attempt::{Answer, Attempt, AttemptStatus, ModelError, Next};
pub use self::endpoints::{Endpoint, Endpoints, ModelSecret, ModelSecrets, OpenAiApi, UnknownApi};
pub use self::text::read_answer;

use self::attempt::Failures;
use self::text::read_output;
use crate::error::VendorError;
use crate::exchange::{Failure, Question, Request};
use crate::models::{Catalogue, Model, Provider};
use crate::reading::Reading;
use crate::wire::Reply;
use crate::{anthropic, chat, openai};

mod attempt;
mod endpoints;
mod found;
mod outgoing;
mod text;

/// An answer has about 10 KB.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// The client of all models.
#[derive(Debug, Clone)]
pub struct ModelClient {
    http: Client,
    endpoints: Endpoints,
    secrets: ModelSecrets,
    catalogue: Catalogue,
}

impl ModelClient {
    /// Makes a client of the models in `catalogue`.
    pub fn new(http: Client, endpoints: Endpoints, secrets: ModelSecrets, catalogue: Catalogue) -> Self {
        Self { http, endpoints, secrets, catalogue }
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
        // Without a sender it never becomes true.
        let (_, aborted) = watch::channel(false);
        self.answer_unless(question, deadline, aborted, record).await
    }

    /// As [`Self::answer`], until `aborted` becomes true: then the request in flight is dropped, and the provider stops writing. Its cost is
    /// unknown.
    ///
    /// # Errors
    /// Fails with [`ModelError`], [`ModelError::Stopped`] if it was aborted.
    pub async fn answer_unless(
        &self,
        question: &Question,
        deadline: Instant,
        aborted: watch::Receiver<bool>,
        record: impl AsyncFnMut(Attempt) -> Next,
    ) -> Result<Answer, ModelError> {
        let (route, models) = self.catalogue.route(question.tier, question.call).ok_or(ModelError::Rejected)?;
        let schema = assessment::schema(question.call, question.tier);
        let timeout = Duration::from_secs(route.timeout_seconds.into());
        let mut attempts = Attempts { deadline, aborted, record };
        let mut failures = Failures::default();
        for (name, model) in models {
            let request = Request {
                model: name,
                effort: route.effort,
                max_output_tokens: route.max_output_tokens,
                limit: model.output_limit,
                question,
                schema: &schema,
            };
            let secret = self.secrets.of(model.provider);
            let mut outcome = self.answer_with(secret.current().await, model, timeout, &request, &mut attempts).await;
            if outcome.as_ref().is_err_and(Refusal::is_refusal) {
                outcome = self.answer_with(secret.renewed().await, model, timeout, &request, &mut attempts).await;
            }
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(Failure::Declined) => return Err(ModelError::Declined),
                Err(Failure::Truncated | Failure::Malformed(_)) => failures.invalid = true,
                Err(Failure::Stopped | Failure::Aborted) => return Err(ModelError::Stopped),
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
        let Reading { usage, response_id, output } = tokio::select! {
            biased;
            reading = self.send(request, target) => reading,
            () = is_aborted(&mut attempts.aborted) => Reading::failed(Failure::Aborted),
        };
        let result = read_output(request.question, output);
        let cost = usage.as_ref().map(|usage| target.model.cost(usage));
        let usage = usage.unwrap_or_default();
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
            cost,
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
            (Provider::OpenAi, OpenAiApi::Responses) => Reading::of::<openai::Responses>(&reply),
            (Provider::OpenAi, OpenAiApi::Chat) => Reading::of::<chat::Chat>(&reply),
            (Provider::Anthropic, _) => Reading::of::<anthropic::Messages>(&reply),
        }
    }
}

/// What limits the attempts at one question.
struct Attempts<R> {
    deadline: Instant,
    aborted: watch::Receiver<bool>,
    record: R,
}

/// Waits until the value is true, for ever if it cannot become so.
async fn is_aborted(aborted: &mut watch::Receiver<bool>) {
    if aborted.wait_for(|aborted| *aborted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Where a request goes.
struct Target<'a> {
    model: &'a Model,
    secret: &'a ModelSecret,
    timeout: Duration,
}

#[cfg(test)]
mod tests;
