//! The statements of the workflow's tasks, one database function each. All are idempotent by run.

use oslira_domain::{FailureCode, MicroUsd, Profile, Run, RunId, RunStatus, StepTiming};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::error::DbError;
use crate::params::params;
use crate::session::AdminDb;

/// Whether a run is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionOutcome {
    /// It is charged and in progress.
    Admitted,
    /// It has a result already.
    Completed,
    /// It was refused, or failed before.
    Failed,
    /// Its user cancelled it before.
    Cancelled,
}

/// The result of an admission.
#[derive(Debug, Deserialize)]
pub struct Admission {
    /// Whether the run is admitted.
    pub outcome: AdmissionOutcome,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// Steps 2 to 5, if it is admitted.
    #[serde(default)]
    pub steps: Vec<StepTiming>,
}

/// A run at the start of a task.
#[derive(Debug, Deserialize)]
pub struct RunState {
    /// Its status.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// The Actor run that fetches its profile, once one was started.
    pub scrape_run_id: Option<String>,
}

/// A run at the start of `Analyze`.
#[derive(Debug, Deserialize)]
pub struct AnalysisState {
    /// Its status.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// The questions that are answered, and paid, already.
    pub answered: Vec<String>,
    /// When the first of them was asked, in milliseconds since 1970 UTC.
    pub first_asked_at_ms: Option<i64>,
    /// The business that the profile is judged for. Its row may have been deleted since: then each field is `None`.
    #[serde(flatten)]
    pub business: BusinessRow,
}

/// What a model learns of the business.
#[derive(Debug, Deserialize)]
pub struct BusinessRow {
    /// Its name.
    pub business_name: Option<String>,
    /// Its website.
    pub website: Option<String>,
    /// One sentence about it.
    pub business_one_liner: Option<String>,
    /// Its context pack.
    pub business_context_pack: Option<Value>,
}

/// A vendor call to record, paid or only attempted.
#[derive(Debug, Clone, Serialize)]
pub struct VendorCall {
    /// Our id. Recording it again changes nothing.
    pub id: Uuid,
    /// `openai`, `anthropic` or `apify`.
    pub provider: &'static str,
    /// The model, for AI.
    pub model: Option<String>,
    /// The question, or `scrape`.
    pub api_call_type: String,
    /// `success`, `error` or `timeout`.
    pub status: &'static str,
    /// What went wrong. Never text of a vendor or a profile.
    pub error_message: Option<String>,
    /// The vendor's id of the call.
    pub response_id: Option<String>,
    /// Input tokens that no cache served.
    pub input_tokens: i64,
    /// Input tokens read from the vendor's prompt cache.
    pub cached_input_tokens: i64,
    /// Input tokens written to it.
    pub cache_write_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// The reasoning tokens among them.
    pub reasoning_tokens: i64,
    /// What it cost; at least, if that is not known.
    pub cost_micro_usd: MicroUsd,
    /// Whether the cost is known. One that is not is marked, so that it never counts as nothing.
    pub cost_known: bool,
    /// How long it took.
    pub duration_ms: i64,
    /// When it began.
    pub started_at_ms: i64,
}

impl VendorCall {
    /// Creates the record of an Actor run: how it ended, its cost and whether that is known, and when. Recorded twice, it counts once, by its id.
    pub fn scrape(
        actor_run_id: &str,
        status: &'static str,
        (cost_micro_usd, cost_known): (MicroUsd, bool),
        started_at_ms: i64,
        duration_ms: i64,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            provider: "apify",
            model: None,
            api_call_type: "scrape".to_owned(),
            status,
            error_message: None,
            response_id: Some(actor_run_id.to_owned()),
            input_tokens: 0,
            cached_input_tokens: 0,
            cache_write_tokens: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            cost_micro_usd,
            cost_known,
            duration_ms,
            started_at_ms,
        }
    }
}

/// A completed run, or the status that kept it from completing.
#[derive(Debug, Deserialize)]
pub struct Completion {
    /// `completed` if the result is stored, now or earlier.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// The stored lead.
    pub lead_id: Option<Uuid>,
    /// The stored analysis.
    pub analysis_id: Uuid,
    /// All steps with their timings.
    pub steps: Vec<StepTiming>,
}

/// The report that [`AdminDb::complete`] stores.
#[derive(Debug, Serialize)]
pub struct StoredReport<'a> {
    /// 0 to 100.
    pub overall_score: i16,
    /// 0 to 100.
    pub niche_fit_score: i16,
    /// 0 to 100.
    pub engagement_score: i16,
    /// 0 to 1.
    pub confidence_level: f64,
    /// The summary, for people.
    pub summary_text: &'a str,
    /// Every field of the tier.
    pub fields: &'a serde_json::Map<String, Value>,
}

/// A run after its failure was recorded.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// Its status: an earlier end wins. `None` if the run does not exist, or belongs to another account than `run`.
    pub status: Option<RunStatus>,
    /// Why it failed.
    pub error_code: Option<FailureCode>,
    /// The credits that this call refunded.
    pub credits_refunded: i32,
}

/// Returns `value` as JSON without NUL characters, which JSON may carry and PostgreSQL cannot store.
fn storable<T: Serialize + ?Sized>(value: &T) -> Result<Json<Value>, DbError> {
    fn strip(value: &mut Value) {
        match value {
            Value::String(text) if text.contains('\0') => text.retain(|c| c != '\0'),
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(fields) => fields.values_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(value).map_err(|error| DbError::Unexpected(error.to_string()))?;
    strip(&mut value);
    Ok(Json(value))
}

impl AdminDb {
    /// Steps 2 to 5: records, checks and charges a run.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn admit(&self, run: &Run) -> Result<Admission, DbError> {
        self.call("SELECT admit_analysis($1, $2)", &params![&run.run_id, Json(run)]).await
    }

    /// Returns the run at the start of a task, and records that it moves. `None` if it was never admitted.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_task(&self, run_id: &RunId) -> Result<Option<RunState>, DbError> {
        self.call("SELECT to_jsonb(t) FROM begin_task($1) t", &params![run_id]).await
    }

    /// Returns the run, its answered questions and its business at the start of `Analyze`, and records that the run moves. `None` if it was never
    /// admitted.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_analysis(&self, run_id: &RunId) -> Result<Option<AnalysisState>, DbError> {
        self.call("SELECT to_jsonb(t) FROM begin_analysis($1) t", &params![run_id]).await
    }

    /// Records the Actor run that fetches the profile, or removes it with `None`, if the recorded one is `replaces`. Returns the Actor run to wait
    /// for; `None` if there is none or the run has ended.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_scrape_run(
        &self,
        run_id: &RunId,
        scrape_run_id: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        self.call("SELECT to_jsonb(record_scrape_run($1, $2, $3))", &params![run_id, scrape_run_id, replaces]).await
    }

    /// Records vendor calls and, with `answer`, the answer to the question `answer.0`. Returns the run's status.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_vendor_calls(
        &self,
        run_id: &RunId,
        calls: &[VendorCall],
        answer: Option<(&str, &Value)>,
    ) -> Result<Option<RunStatus>, DbError> {
        let (question, output) = match answer {
            Some((question, output)) => (Some(question), Some(storable(output)?)),
            None => (None, None),
        };
        self.call("SELECT to_jsonb(record_vendor_calls($1, $2, $3, $4))", &params![run_id, storable(calls)?, question, output]).await
    }

    /// Takes some Actor runs whose cost was not known when they were recorded, to read it again. Those recorded or taken in the last 15 seconds, or
    /// recorded days ago, are left out.
    ///
    /// # Errors
    /// As any statement.
    pub async fn take_unsettled_scrapes(&self, limit: u32) -> Result<Vec<String>, DbError> {
        self.call("SELECT take_unsettled_scrapes($1)", &params![limit]).await
    }

    /// Records what an Actor run cost that was recorded without, in the costs of its runs as well. Doing it again changes nothing.
    ///
    /// # Errors
    /// As any statement.
    pub async fn settle_scrape_cost(&self, actor_run_id: &str, cost: MicroUsd) -> Result<(), DbError> {
        self.execute("SELECT settle_scrape_cost($1, $2)", &params![actor_run_id, cost.0]).await
    }

    /// Returns the models' answers so far, by question.
    ///
    /// # Errors
    /// As any statement.
    pub async fn ai_answers(&self, run_id: &RunId) -> Result<Option<Value>, DbError> {
        self.call("SELECT ai_answers FROM analyses WHERE run_id = $1", &params![run_id]).await
    }

    /// Steps 10 to 12: stores the lead and the results and ends the run. `steps` are the nine before.
    ///
    /// # Errors
    /// As any statement; a run that ended otherwise is an outcome, not an error.
    pub async fn complete(
        &self,
        run_id: &RunId,
        profile: &Profile,
        report: &StoredReport<'_>,
        metrics: &Value,
        cache_hit: bool,
        steps: &[StepTiming],
    ) -> Result<Completion, DbError> {
        self.call(
            "SELECT complete_analysis($1, $2, $3, $4, $5, $6)",
            &params![run_id, storable(profile)?, storable(report)?, storable(metrics)?, cache_hit, storable(steps)?],
        )
        .await
    }

    /// Ends a run without a result and refunds it, unless it has ended already. With `run`, a run that was never admitted gets a failed row.
    ///
    /// # Errors
    /// As any statement.
    pub async fn fail(&self, run_id: &RunId, run: Option<&Run>, code: FailureCode, steps: &[StepTiming]) -> Result<Failure, DbError> {
        self.call("SELECT fail_run($1, $2, NULL, $3, $4)", &params![run_id, code, storable(steps)?, run.map(Json)]).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_characters_do_not_reach_the_database() {
        let stored = storable(&json!({ "bio": "a\0b", "posts": ["\0", { "caption": "ok" }] })).unwrap();
        assert_eq!(stored.0, json!({ "bio": "ab", "posts": ["", { "caption": "ok" }] }));
    }
}
