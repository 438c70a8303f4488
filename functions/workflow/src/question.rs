//! One question to a model: asked, answered, recorded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::Retryable;
use jiff::Timestamp;
use oslira_db::DbError;
use oslira_db::workflow::{AnalysisState, VendorCall};
use oslira_domain::{BusinessContext, Call, FailureCode, Profile, Run};
use oslira_vendors::{Answer, Attempt, ModelClient, ModelError, Next, Question};
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::error::TaskError;
use crate::task::{Deps, ensure_active, log_progress_error};

/// The time that an attempt leaves of the invocation for its record.
const TIME_TO_RECORD: Duration = Duration::from_secs(10);
/// The time that a record leaves of the invocation for the response.
const TIME_TO_RESPOND: Duration = Duration::from_secs(2);
/// How often it is checked whether the run was cancelled meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The questions of one invocation.
pub(crate) struct Questions<'a> {
    deps: &'a Deps,
    models: &'a ModelClient,
    run: &'a Run,
    /// When the invocation ends.
    ends: Instant,
    /// Whether one of the questions ended the run: no further attempt is of any use.
    is_over: AtomicBool,
    /// Becomes true when the run has ended otherwise, by a cancellation: the requests in flight are aborted.
    has_ended: watch::Sender<bool>,
}

impl<'a> Questions<'a> {
    pub(crate) fn new(deps: &'a Deps, models: &'a ModelClient, run: &'a Run, ends: Instant) -> Self {
        Self { deps, models, run, ends, is_over: AtomicBool::new(false), has_ended: watch::Sender::new(false) }
    }

    /// Runs the questions, and aborts them when the run is cancelled: an answer is of no use then, and a provider that loses its client stops
    /// writing. The progress item says so, because reading it costs no connection to the database. A failed reading changes nothing.
    pub(crate) async fn until_ended<T>(&self, questions: impl Future<Output = T>) -> T {
        let watch = async {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let item = self.deps.progress.get(&self.run.run_id, Timestamp::now()).await;
                if item.is_ok_and(|item| item.is_some_and(|item| item.status.is_terminal())) {
                    self.has_ended.send_replace(true);
                    return;
                }
            }
        };
        tokio::pin!(questions);
        tokio::select! {
            biased;
            result = &mut questions => return result,
            () = watch => {}
        }
        questions.await
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
        self.models.answer_unless(question, ends, self.has_ended.subscribe(), record).await.or_else(|error| match error {
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
        let ends = self.ends.checked_sub(TIME_TO_RESPOND).unwrap_or(self.ends);
        let recorded = tokio::time::timeout_at(ends.into(), record.retry(oslira_db::pauses()).when(DbError::is_retryable)).await;
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
    let (cache_key, safety_id) = (run.business_profile_id.to_string(), run.account_id.to_string());
    Question::new(call, run.tier, business, profile, Timestamp::now(), cache_key, safety_id)
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
        cost_micro_usd: attempt.cost.unwrap_or_default(),
        cost_known: attempt.cost.is_some(),
        duration_ms: attempt.duration_ms,
        started_at_ms: attempt.started_at.as_millisecond(),
    }
}
