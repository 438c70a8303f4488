//! `GET /api/analysis/{runId}/progress`

use std::time::Duration;

use jiff::Timestamp;
use oslira_aws::limits::PROGRESS;
use oslira_aws::progress::Progress;
use oslira_db::runs::RunRow;
use oslira_db::within;
use oslira_domain::{FailureCode, RunId, RunStatus, Step, StepTiming, Tier};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{Deps, cancelled_message};

/// How long a request waits for the database. A client that polls retries soon, and thousands of them must not fill all environments with
/// requests that wait while the database is unavailable.
const PATIENCE: Duration = Duration::from_secs(4);

/// The progress of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProgressView {
    run_id: RunId,
    username: String,
    analysis_type: Tier,
    status: RunStatus,
    /// 0 to 100. Never decreases.
    progress: u8,
    current_step: Step,
    current_step_number: u8,
    total_steps: usize,
    message: &'static str,
    steps: Vec<StepView>,
    started_at: Timestamp,
    updated_at: Timestamp,
    completed_at: Option<Timestamp>,
    error: Option<ErrorView>,
    result: Option<Scores>,
}

/// One of the twelve steps.
#[derive(Debug, Serialize, JsonSchema)]
struct StepView {
    number: u8,
    name: Step,
    label: &'static str,
    percent: u8,
    status: StepStatus,
    started_at: Option<Timestamp>,
    duration_ms: Option<f64>,
}

/// The status of a step.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StepStatus {
    /// It has ended.
    Completed,
    /// It is running.
    Running,
    /// It was not needed.
    Skipped,
    /// It has not started.
    Pending,
}

/// Why a run failed.
#[derive(Debug, Serialize, JsonSchema)]
struct ErrorView {
    code: FailureCode,
    message: &'static str,
    /// More about it, such as the credits that were missing.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    details: Option<Value>,
}

/// The scores of a completed run. `GET /api/analysis/{runId}/result` returns the whole result.
#[derive(Debug, Serialize, JsonSchema)]
struct Scores {
    #[schemars(with = "i64")]
    overall_score: Option<Value>,
    #[schemars(with = "i64")]
    niche_fit_score: Option<Value>,
    #[schemars(with = "i64")]
    engagement_score: Option<Value>,
    #[schemars(with = "f64")]
    confidence_level: Option<Value>,
    #[schemars(with = "String")]
    summary_text: Option<Value>,
}

/// The state of a run: its progress item's, its row's, or both merged.
struct RunState {
    status: RunStatus,
    percent: u8,
    step: Step,
    timings: Vec<StepTiming>,
    updated_at: Timestamp,
    error_code: Option<FailureCode>,
}

impl From<Progress> for RunState {
    fn from(item: Progress) -> Self {
        Self {
            status: item.status,
            percent: item.percent,
            step: item.step,
            timings: item.steps,
            updated_at: item.updated_at,
            error_code: item.error_code,
        }
    }
}

impl From<&RunRow> for RunState {
    /// Reads the state from the row alone, for a run whose progress item has expired.
    fn from(row: &RunRow) -> Self {
        // The row has the steps that ended, after which the next one was running, and how far the run came since.
        let next = |timing: &StepTiming| Step::ALL.get(usize::from(timing.step.number())).copied().unwrap_or(Step::Complete);
        let begun = row.steps.last().map_or(Step::CreateRecord, next);
        let percent = if row.status == RunStatus::Completed { Step::Complete.percent() } else { begun.percent().max(row.percent) };
        let step = Step::ALL.into_iter().rev().find(|step| step.percent() <= percent).unwrap_or(begun);
        Self { status: row.status, percent, step, timings: row.steps.clone(), updated_at: row.updated_at, error_code: row.error_code }
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).path::<RunId>("runId").limited(&[PROGRESS]).responds::<ProgressView>(200).refuses(&errors::ANALYSIS_NOT_FOUND).end();
}

/// Returns the progress of a run: percentage, current step, and all twelve steps with their times.
#[endpoint(GET, "/api/analysis/{runId}/progress")]
pub async fn get_progress(request: Request, deps: Deps) -> Result<Reply, Problem> {
    let run_id: RunId = request.path("runId")?;
    tracing::Span::current().record("run_id", run_id.as_str());
    let claims = request.caller.claims();
    // DynamoDB has the progress of a live run; the database has its end, which outlives the item and takes precedence.
    let (view, item) = tokio::join!(
        within(PATIENCE, deps.db.run(&claims, request.caller.requested_account, &run_id)),
        deps.progress.get(&run_id, request.received_at)
    );
    let view = view?;
    let item = item.unwrap_or_else(|error| {
        tracing::warn!(%error, "progress not read");
        None
    });
    let item = item.filter(|item| view.account_ids.contains(&item.run.account_id));
    let (username, tier, started_at) = match (&view.run, &item) {
        (Some(row), _) => (row.username.clone(), row.tier, row.created_at),
        (None, Some(item)) => {
            (item.run.username.to_string(), item.run.tier, Timestamp::from_millisecond(item.run.requested_at_ms).unwrap_or(item.updated_at))
        }
        (None, None) => return Err(Problem::of(&errors::ANALYSIS_NOT_FOUND)),
    };
    let Some(state) = merge(view.run.as_ref(), item) else { return Err(Problem::of(&errors::ANALYSIS_NOT_FOUND)) };
    let row = view.run.as_ref();
    let report = row.filter(|row| row.status == RunStatus::Completed).map(|row| &row.ai_response["report"]);
    let field = |name: &str| report.map(|report| report[name].clone());
    Reply::ok(&ProgressView {
        username,
        analysis_type: tier,
        status: state.status,
        progress: state.percent,
        current_step: state.step,
        current_step_number: state.step.number(),
        total_steps: Step::ALL.len(),
        message: message(&state, row),
        steps: steps(&state),
        started_at,
        updated_at: state.updated_at,
        completed_at: row.and_then(|row| row.completed_at),
        error: state.error_code.map(|code| ErrorView {
            code,
            message: code.message(),
            details: row.and_then(|row| row.error_details.clone()),
        }),
        result: report.map(|_| Scores {
            overall_score: field("overall_score"),
            niche_fit_score: field("niche_fit_score"),
            engagement_score: field("engagement_score"),
            confidence_level: field("confidence_level"),
            summary_text: field("summary_text"),
        }),
        run_id,
    })
}

/// Merges the item's progress with the row's end. A completed run is at 100 % even if its last progress write was lost. A run that ended
/// otherwise stays where it was, so that the percentage never decreases.
fn merge(row: Option<&RunRow>, item: Option<Progress>) -> Option<RunState> {
    let Some(row) = row else { return item.map(RunState::from) };
    let Some(item) = item else { return Some(RunState::from(row)) };
    let mut state = RunState::from(item);
    if row.status.is_terminal() {
        state.status = row.status;
        state.error_code = row.error_code;
        state.updated_at = row.updated_at;
        if row.status == RunStatus::Completed {
            state.percent = Step::Complete.percent();
            state.step = Step::Complete;
            state.timings.clone_from(&row.steps);
        }
    }
    Some(state)
}

fn message(state: &RunState, row: Option<&RunRow>) -> &'static str {
    match (state.status, state.error_code) {
        (RunStatus::Failed, Some(code)) => code.message(),
        (RunStatus::Cancelled, _) => {
            // The item may know of the cancellation before the row that was read does, and only the row has the charge.
            let row = row.filter(|row| row.status == RunStatus::Cancelled);
            row.map_or("The analysis was cancelled.", |row| cancelled_message(row.credits_charged - row.credits_refunded))
        }
        _ => state.step.label(),
    }
}

fn steps(state: &RunState) -> Vec<StepView> {
    let view = |step: Step| {
        let timing = state.timings.iter().find(|timing| timing.step == step);
        let status = match timing {
            Some(_) => StepStatus::Completed,
            None if step == state.step && !state.status.is_terminal() => StepStatus::Running,
            None if step.number() < state.step.number() => StepStatus::Skipped,
            None => StepStatus::Pending,
        };
        StepView {
            number: step.number(),
            name: step,
            label: step.label(),
            percent: step.percent(),
            status,
            started_at: timing.and_then(|timing| Timestamp::from_millisecond(timing.started_at_ms).ok()),
            #[expect(clippy::cast_precision_loss, reason = "a duration of minutes in microseconds fits")]
            duration_ms: timing.map(|timing| timing.duration_us as f64 / 1000.0),
        }
    };
    Step::ALL.into_iter().map(view).collect()
}
