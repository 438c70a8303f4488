//! `Analyze`: one question of step 9.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::profiles::Profiles;
use oslira_db::workflow::{CallState, VendorCall};
use oslira_domain::business::BusinessContext;
use oslira_domain::metrics::Metrics;
use oslira_domain::{Call, FailureCode, Profile, Run};
use oslira_lambda::Event;
use oslira_vendors::{Answer, Attempt, Catalogue, Endpoint, Endpoints, ModelClient, ModelError, ModelSecrets, Next, Question, prompt};
use serde_json::Value;
use uuid::Uuid;

use crate::error::TaskError;
use crate::state::{AnalyzeInput, Answered};
use crate::task::{Deps, input, shown, still_wanted};

/// What a try leaves of the invocation for booking it.
const BOOKING: Duration = Duration::from_secs(10);

/// The clients of this task.
#[derive(Clone)]
pub struct Asker {
    models: ModelClient,
    profiles: Profiles,
}

impl Asker {
    /// Reads `OPENAI_BASE_URL`, `OPENAI_API`, `ANTHROPIC_BASE_URL`, `AI_TIMEOUT_SECONDS`, `PROFILE_BUCKET` and, if given, a catalogue of models
    /// in `MODEL_CATALOGUE`.
    ///
    /// # Errors
    /// Names the variable that is missing or wrong.
    pub fn from_env(deps: &Deps) -> Result<Self, lambda_runtime::Error> {
        let endpoints = Endpoints {
            openai: Endpoint::new(oslira_aws::variable("OPENAI_BASE_URL")?),
            openai_api: oslira_aws::variable("OPENAI_API")?.parse()?,
            anthropic: Endpoint::new(oslira_aws::variable("ANTHROPIC_BASE_URL")?),
        };
        let seconds = oslira_aws::variable("AI_TIMEOUT_SECONDS")?.parse()?;
        let catalogue = match std::env::var("MODEL_CATALOGUE") {
            Ok(text) if !text.is_empty() => Catalogue::parse(&text)?,
            _ => Catalogue::builtin(),
        };
        let secrets = ModelSecrets { openai: deps.secrets.credential("openai"), anthropic: deps.secrets.credential("anthropic") };
        let timeout_cap = Some(Duration::from_secs(seconds));
        let models = ModelClient::new(oslira_vendors::http_client()?, endpoints, secrets, catalogue, timeout_cap);
        Ok(Self { models, profiles: Profiles::from_env(&deps.config)? })
    }
}

/// Asks a model one question about the profile and keeps its answer with the run. A question that was answered before is not asked
/// again, and every try is booked as it ends, whatever came of it.
///
/// # Errors
/// `ModelRefused`, `InvalidModelOutput`, `ModelRejected`, `Cancelled`; `RetryableModel` when no provider answered.
pub async fn analyze(task: Event<Value>, deps: Deps, asker: Asker) -> Result<Answered, TaskError> {
    let AnalyzeInput { run, profile, call } = input(task.payload)?;
    let at = profile.at.ok_or_else(|| TaskError::Defect("no profile to judge".to_owned()))?;
    let started = Timestamp::now();
    let (state, cached, ()) = tokio::join!(deps.db.begin_call(&run.run_id, call.as_str()), asker.profiles.get(&at), asker.models.prepare());
    let state = state?;
    still_wanted(state.as_ref().map(|state| (state.status, state.error_code)))?;
    let answered = |ended: Timestamp| Answered { call, started_at_ms: started.as_millisecond(), ended_at_ms: ended.as_millisecond() };
    let Some(state) = state.filter(|state| !state.answered) else { return Ok(answered(Timestamp::now())) };
    let profile = cached?.ok_or_else(|| TaskError::Defect("the profile has left the cache".to_owned()))?.profile;

    let question = question(&run, call, &state, &profile);
    let ends = task.deadline.checked_sub(BOOKING).unwrap_or(task.deadline);
    let Answer { output, attempt } = ask(&deps, &asker, &run, &question, ends).await?;
    let status = deps.db.record_vendor_calls(&run.run_id, &[booking(call, attempt)], Some((call.as_str(), &output))).await?;
    still_wanted(status.map(|status| (status, None)))?;
    let ended = Timestamp::now();
    shown(deps.progress.call_answered(&run.run_id, call.as_str(), ended).await);
    Ok(answered(ended))
}

/// Returns a model's answer. Attempts without an answer are recorded before the next one. None is made for a run that has ended meanwhile, or
/// whose attempts cannot be recorded.
async fn ask(deps: &Deps, asker: &Asker, run: &Run, question: &Question, ends: Instant) -> Result<Answer, TaskError> {
    let mut recorded = Ok(());
    let record = async |attempt| {
        let status = deps.db.record_vendor_calls(&run.run_id, &[booking(question.call, attempt)], None).await;
        recorded = status.map_err(TaskError::from).and_then(|status| still_wanted(status.map(|status| (status, None))));
        if recorded.is_ok() { Next::Continue } else { Next::Stop }
    };
    asker.models.answer(question, ends, record).await.or_else(|error| match error {
        ModelError::Declined => Err(TaskError::Final(FailureCode::AiRefused)),
        ModelError::InvalidOutput => Err(TaskError::Final(FailureCode::AiInvalidOutput)),
        ModelError::Rejected => {
            tracing::error!("no provider accepts the request");
            Err(TaskError::Final(FailureCode::AiFailed))
        }
        ModelError::Unavailable => Err(TaskError::Model),
        ModelError::Stopped => recorded.and(Err(TaskError::Model)),
        ModelError::Credential(error) => Err(error.into()),
    })
}

fn question(run: &Run, call: Call, state: &CallState, profile: &Profile) -> Question {
    let (name, website, one_liner, pack) = &state.business;
    let no_pack = Value::Null;
    let business = BusinessContext::from_row(
        name.as_deref().unwrap_or_default(),
        website.as_deref(),
        one_liner.as_deref(),
        pack.as_ref().unwrap_or(&no_pack),
    );
    let now = Timestamp::now();
    Question {
        tier: run.tier,
        call,
        lead: run.username.clone(),
        prompt: prompt(call, run.tier, &business, profile, &Metrics::of(profile, now), now),
        cache_key: run.business_profile_id.to_string(),
        safety_id: run.account_id.to_string(),
    }
}

fn booking(call: Call, attempt: Attempt) -> VendorCall {
    VendorCall {
        id: Uuid::now_v7(),
        provider: attempt.provider.as_str(),
        model: Some(attempt.model),
        api_call_type: call.as_str().to_owned(),
        status: attempt.status.as_str(),
        error_message: attempt.error,
        response_id: attempt.response_id,
        input_tokens: attempt.input_tokens,
        cached_input_tokens: attempt.cached_input_tokens,
        cache_write_tokens: attempt.cache_write_tokens,
        output_tokens: attempt.output_tokens,
        reasoning_tokens: attempt.reasoning_tokens,
        cost_micro_usd: attempt.cost,
        duration_ms: attempt.duration_ms,
        started_at_ms: attempt.started_at.as_millisecond(),
    }
}
