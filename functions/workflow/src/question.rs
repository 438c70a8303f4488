//! One question to a model: asked, answered, recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use oslira_db::DbError;
use oslira_db::workflow::{AnalysisState, VendorCall};
use oslira_domain::business::BusinessContext;
use oslira_domain::metrics::Metrics;
use oslira_domain::{Call, FailureCode, Profile, Run};
use oslira_vendors::{Answer, Attempt, ModelClient, ModelError, Next, Question, prompt};
use serde_json::Value;
use uuid::Uuid;

use crate::error::TaskError;
use crate::task::{Deps, ensure_active, log_progress_error};

/// The time that an attempt leaves of the invocation for its record.
const TIME_TO_RECORD: Duration = Duration::from_secs(10);
/// The time that a record leaves of the invocation for the response.
const TIME_TO_RESPOND: Duration = Duration::from_secs(2);
/// The longest pause before another attempt to record.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The questions of one invocation.
pub(crate) struct Questions<'a> {
    deps: &'a Deps,
    models: &'a ModelClient,
    run: &'a Run,
    /// When the invocation ends.
    ends: Instant,
    /// Whether one of the questions ended the run: no further attempt is of any use.
    is_over: AtomicBool,
}

impl<'a> Questions<'a> {
    pub(crate) fn new(deps: &'a Deps, models: &'a ModelClient, run: &'a Run, ends: Instant) -> Self {
        Self { deps, models, run, ends, is_over: AtomicBool::new(false) }
    }

    /// Asks a question and records its answer. Every attempt is recorded as it ends, whatever its outcome.
    ///
    /// # Errors
    /// As [`crate::analyze()`].
    pub(crate) async fn ask(&self, question: Question) -> Result<(), TaskError> {
        let result = self.answer(&question).await;
        if let Err(error) = &result {
            tracing::info!(call = question.call.as_str(), %error, "question not answered");
            if error.is_terminal() {
                self.is_over.store(true, Ordering::Relaxed);
            }
        }
        result
    }

    async fn answer(&self, question: &Question) -> Result<(), TaskError> {
        let call = question.call;
        let Answer { output, attempt } = self.first_answer(question).await?;
        self.record(vendor_call(call, attempt), Some((call.as_str(), &output))).await?;
        log_progress_error(self.deps.progress.call_answered(&self.run.run_id, call.as_str(), Timestamp::now()).await);
        Ok(())
    }

    /// Returns a model's answer. Attempts without an answer are recorded before the next one. None is made for a run that has ended meanwhile, or
    /// whose attempts cannot be recorded.
    async fn first_answer(&self, question: &Question) -> Result<Answer, TaskError> {
        let ends = self.ends.checked_sub(TIME_TO_RECORD).unwrap_or(self.ends);
        let mut recorded = Ok(());
        let record = async |attempt| {
            recorded = self.record(vendor_call(question.call, attempt), None).await;
            if recorded.is_ok() && !self.is_over.load(Ordering::Relaxed) { Next::Continue } else { Next::Stop }
        };
        self.models.answer(question, ends, record).await.or_else(|error| match error {
            ModelError::Declined => Err(TaskError::Terminal(FailureCode::AiRefused)),
            ModelError::InvalidOutput => Err(TaskError::Terminal(FailureCode::AiInvalidOutput)),
            ModelError::Rejected => {
                tracing::error!("no provider accepts the request");
                Err(TaskError::Terminal(FailureCode::AiFailed))
            }
            ModelError::Unavailable => Err(TaskError::Model),
            ModelError::Stopped => recorded.and(Err(TaskError::Model)),
            ModelError::Credential(error) => Err(error.into()),
        })
    }

    /// Records a vendor call and its answer, for as long as the invocation lasts: an answer is paid for, and without a record it would be paid
    /// for again.
    ///
    /// # Errors
    /// Fails when the database stays unavailable, or when the run has ended.
    async fn record(&self, call: VendorCall, answer: Option<(&str, &Value)>) -> Result<(), TaskError> {
        let calls = [call];
        let record = || self.deps.db.record_vendor_calls(&self.run.run_id, &calls, answer);
        let pauses =
            ExponentialBuilder::default().with_min_delay(MAX_PAUSE / 20).with_max_delay(MAX_PAUSE).with_jitter().without_max_times();
        let ends = self.ends.checked_sub(TIME_TO_RESPOND).unwrap_or(self.ends);
        let recorded = tokio::time::timeout_at(ends.into(), record.retry(pauses).when(DbError::is_retryable)).await;
        let status = recorded.unwrap_or_else(|_| Err(DbError::Unavailable("a vendor call could not be recorded in time".to_owned())))?;
        ensure_active(status.map(|status| (status, None)))
    }
}

/// Returns the question `call` about a profile.
pub(crate) fn question(run: &Run, call: Call, state: &AnalysisState, profile: &Profile) -> Question {
    let row = &state.business;
    let business = BusinessContext::from_row(
        row.business_name.as_deref().unwrap_or_default(),
        row.website.as_deref(),
        row.business_one_liner.as_deref(),
        row.business_context_pack.as_ref().unwrap_or(&Value::Null),
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

/// Returns the record of an attempt at a question.
fn vendor_call(call: Call, attempt: Attempt) -> VendorCall {
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
        cost_known: true,
        duration_ms: attempt.duration_ms,
        started_at_ms: attempt.started_at.as_millisecond(),
    }
}
