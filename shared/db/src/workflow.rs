//! What the workflow's tasks write, one database function each. All are idempotent by run.

use oslira_domain::{FailureCode, MicroUsd, Profile, Run, RunId, RunStatus, StepTiming};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::DbError;
use crate::session::AdminDb;

/// How an admission ended.
#[derive(Debug, Deserialize)]
pub struct Admission {
    /// `admitted`, or the terminal status that the run has.
    pub outcome: String,
    /// Why not, if it failed.
    pub error_code: Option<FailureCode>,
    /// Steps 2 to 5, if admitted.
    #[serde(default)]
    pub steps: Vec<StepTiming>,
}

/// A run as a task finds it.
#[derive(Debug)]
pub struct RunState {
    /// Where it is.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// The Apify run that fetches its profile, once there is one.
    pub scrape_run_id: Option<String>,
}

/// A run as an AI call finds it.
#[derive(Debug)]
pub struct CallState {
    /// Where it is.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// Whether this call was answered and paid already.
    pub answered: bool,
    /// The business profile's row: name, website, one-liner, context pack.
    pub business: (Option<String>, Option<String>, Option<String>, Option<Value>),
}

/// A paid or tried vendor call to book.
#[derive(Debug, Clone, Serialize)]
pub struct VendorCall {
    /// Ours: booking it again changes nothing.
    pub id: Uuid,
    /// `openai`, `anthropic` or `apify`.
    pub provider: &'static str,
    /// The model, for AI.
    pub model: Option<String>,
    /// The AI call, or `scrape`.
    pub api_call_type: String,
    /// `success`, `error` or `timeout`.
    pub status: &'static str,
    /// What went wrong, never with vendor or profile text.
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
    /// Of these, reasoning.
    pub reasoning_tokens: i64,
    /// What it cost.
    pub cost_micro_usd: MicroUsd,
    /// How long it took.
    pub duration_ms: i64,
    /// When it began.
    pub started_at_ms: i64,
}

impl VendorCall {
    /// An Actor run that fetched profiles, or was to: what it cost, how it ended, and when. Its id is what makes booking it twice count once.
    pub fn scrape(actor_run_id: &str, status: &'static str, cost_micro_usd: MicroUsd, started_at_ms: i64, duration_ms: i64) -> Self {
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
            duration_ms,
            started_at_ms,
        }
    }
}

/// A completed run, or the state that kept it from completing.
#[derive(Debug, Deserialize)]
pub struct Completion {
    /// `completed` if the result is stored, now or before.
    pub status: RunStatus,
    /// Why it failed, if it did.
    pub error_code: Option<FailureCode>,
    /// The stored lead.
    pub lead_id: Option<Uuid>,
    /// The stored analysis.
    pub analysis_id: Uuid,
    /// All steps with their times.
    pub steps: Vec<StepTiming>,
}

/// What `complete` stores of a report.
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
    /// For people.
    pub summary_text: &'a str,
    /// Every field of the tier.
    pub fields: &'a serde_json::Map<String, Value>,
}

/// How a failure was booked.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// The status that holds: an earlier end wins. `None` if there is no such run.
    pub status: Option<RunStatus>,
    /// The reason that holds.
    pub error_code: Option<FailureCode>,
    /// What this call refunded.
    pub credits_refunded: i32,
}

/// The run's input as the database functions take it.
fn seed(run: &Run) -> Value {
    json!({
        "account_id": run.account_id, "business_profile_id": run.business_profile_id, "requested_by": run.requested_by,
        "username": run.username, "tier": run.tier, "requested_at_ms": run.requested_at_ms,
    })
}

/// `value` without the NUL characters that JSON may carry and PostgreSQL cannot store.
fn storable<T: Serialize>(value: &T) -> Result<Value, DbError> {
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
    Ok(value)
}

fn parse<T: DeserializeOwned>(row: Option<Row>) -> Result<T, DbError> {
    let value: Value = row.ok_or_else(|| DbError::Unexpected("no row".to_owned()))?.try_get(0)?;
    serde_json::from_value(value).map_err(|error| DbError::Unexpected(error.to_string()))
}

fn column<T: std::str::FromStr>(row: &Row, name: &str) -> Result<Option<T>, DbError> {
    let text: Option<String> = row.try_get(name)?;
    text.map(|text| text.parse().map_err(|_| DbError::Unexpected(format!("unknown {name}")))).transpose()
}

fn required<T: std::str::FromStr>(row: &Row, name: &str) -> Result<T, DbError> {
    column(row, name)?.ok_or_else(|| DbError::Unexpected(format!("{name} is null")))
}

impl AdminDb {
    /// Steps 2 to 5: records, checks and charges a run.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn admit(&self, run: &Run) -> Result<Admission, DbError> {
        let (id, seed) = (run.run_id.as_str(), seed(run));
        parse(self.one("SELECT admit_analysis($1, $2)", &[(&id, Type::TEXT), (&seed, Type::JSONB)]).await?)
    }

    /// The run as a task finds it; marks that it moves. `None` if it was never admitted.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_task(&self, run_id: &RunId) -> Result<Option<RunState>, DbError> {
        let row = self.one("SELECT status, error_code, scrape_run_id FROM begin_task($1)", &[(&run_id.as_str(), Type::TEXT)]).await?;
        row.map(|row| {
            Ok(RunState {
                status: required(&row, "status")?,
                error_code: column(&row, "error_code")?,
                scrape_run_id: row.try_get("scrape_run_id")?,
            })
        })
        .transpose()
    }

    /// The run and its business as an AI call finds them; marks that the run moves. `None` if it was never admitted.
    ///
    /// # Errors
    /// As any statement.
    pub async fn begin_call(&self, run_id: &RunId, call: &str) -> Result<Option<CallState>, DbError> {
        let row = self
            .one(
                "SELECT status, error_code, answered, business_name, website, business_one_liner, business_context_pack FROM begin_call($1, $2)",
                &[(&run_id.as_str(), Type::TEXT), (&call, Type::TEXT)],
            )
            .await?;
        row.map(|row| {
            Ok(CallState {
                status: required(&row, "status")?,
                error_code: column(&row, "error_code")?,
                answered: row.try_get("answered")?,
                business: (
                    row.try_get("business_name")?,
                    row.try_get("website")?,
                    row.try_get("business_one_liner")?,
                    row.try_get("business_context_pack")?,
                ),
            })
        })
        .transpose()
    }

    /// Remembers the Apify run that fetches the profile (or forgets it, with `None`), if what is remembered so far is
    /// `replaces`. Answers whose to wait for; `None` if there is none or the run has ended.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_scrape_run(
        &self,
        run_id: &RunId,
        scrape_run_id: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<Option<String>, DbError> {
        let row = self
            .one(
                "SELECT record_scrape_run($1, $2, $3)",
                &[(&run_id.as_str(), Type::TEXT), (&scrape_run_id, Type::TEXT), (&replaces, Type::TEXT)],
            )
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// Books vendor calls and, with `answer`, keeps what the AI call `answer.0` said. Answers the run's status.
    ///
    /// # Errors
    /// As any statement.
    pub async fn record_vendor_calls(
        &self,
        run_id: &RunId,
        calls: &[VendorCall],
        answer: Option<(&str, &Value)>,
    ) -> Result<Option<RunStatus>, DbError> {
        let calls = storable(&calls)?;
        let (call, output) = match answer {
            Some((call, output)) => (Some(call), Some(storable(output)?)),
            None => (None, None),
        };
        let row = self
            .one(
                "SELECT record_vendor_calls($1, $2, $3, $4) AS status",
                &[(&run_id.as_str(), Type::TEXT), (&calls, Type::JSONB), (&call, Type::TEXT), (&output, Type::JSONB)],
            )
            .await?;
        row.map_or(Ok(None), |row| column(&row, "status"))
    }

    /// What the models said so far, by call.
    ///
    /// # Errors
    /// As any statement.
    pub async fn ai_answers(&self, run_id: &RunId) -> Result<Option<Value>, DbError> {
        let row = self.one("SELECT ai_answers FROM analyses WHERE run_id = $1", &[(&run_id.as_str(), Type::TEXT)]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
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
        let (profile, report, metrics, steps) = (storable(profile)?, storable(report)?, storable(metrics)?, storable(&steps)?);
        parse(
            self.one(
                "SELECT complete_analysis($1, $2, $3, $4, $5, $6)",
                &[
                    (&run_id.as_str(), Type::TEXT),
                    (&profile, Type::JSONB),
                    (&report, Type::JSONB),
                    (&metrics, Type::JSONB),
                    (&cache_hit, Type::BOOL),
                    (&steps, Type::JSONB),
                ],
            )
            .await?,
        )
    }

    /// Ends a run without a result and refunds it, unless it has ended already. With `run`, its input, a run that was never
    /// admitted gets a failed row.
    ///
    /// # Errors
    /// As any statement.
    pub async fn fail(&self, run_id: &RunId, run: Option<&Run>, code: FailureCode, steps: &[StepTiming]) -> Result<Failure, DbError> {
        let (steps, seed) = (storable(&steps)?, run.map(seed));
        parse(
            self.one(
                "SELECT fail_run($1, $2, NULL, $3, $4)",
                &[(&run_id.as_str(), Type::TEXT), (&code.as_str(), Type::TEXT), (&steps, Type::JSONB), (&seed, Type::JSONB)],
            )
            .await?,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_characters_do_not_reach_the_database() {
        let stored = storable(&json!({ "bio": "a\0b", "posts": ["\0", { "caption": "ok" }] })).unwrap();
        assert_eq!(stored, json!({ "bio": "ab", "posts": ["", { "caption": "ok" }] }));
    }
}
