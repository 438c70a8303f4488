//! `GET /api/analysis/{runId}/result`

use jiff::Timestamp;
use oslira_aws::limits::GENERAL;
use oslira_db::runs::RunRow;
use oslira_domain::assessment::{Commercial, DeepCore, LightCore, Outreach, Personality, ProfileWarning, Psychographic};
use oslira_domain::{FailureCode, Metrics, Performance, RunId, RunStatus, Tier};
use oslira_http::errors::{CancelledRun, FailedRun, IncompleteRun};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Deps;

/// A result, whose fields depend on the tier.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used; the models' fields are returned as they were validated and stored")]
enum AnalysisResult {
    Light(LightResult),
    Deep(DeepResult),
    Xray(XrayResult),
}

/// The 8 fields of LIGHT, and the run's own.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct LightResult {
    #[serde(flatten)]
    core: LightCore,
    #[serde(flatten)]
    run: OwnFields,
}

/// The 20 fields of DEEP, and the run's own.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct DeepResult {
    #[serde(flatten)]
    core: DeepCore,
    #[serde(flatten)]
    outreach: Outreach,
    #[serde(flatten)]
    personality: Personality,
    #[serde(flatten)]
    run: OwnFields,
}

/// The 29 fields of XRAY, and the run's own.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct XrayResult {
    #[serde(flatten)]
    core: Psychographic,
    #[serde(flatten)]
    commercial: Commercial,
    #[serde(flatten)]
    outreach: Outreach,
    #[serde(flatten)]
    personality: Personality,
    #[serde(flatten)]
    run: OwnFields,
}

/// The run's own fields.
#[derive(Serialize, JsonSchema)]
struct OwnFields {
    run_id: RunId,
    lead_id: Option<Uuid>,
    analysis_id: Uuid,
    status: RunStatus,
    username: String,
    analysis_type: Tier,
    #[schemars(with = "Option<Metrics>")]
    metrics: Option<Value>,
    /// What to know about the profile before relying on the result.
    #[schemars(with = "Vec<ProfileWarning>")]
    profile_warnings: Value,
    /// The model of the main question.
    model_used: Option<String>,
    /// Whether the profile came from the cache.
    cache_hit: Option<bool>,
    /// The charge in the ledger.
    credits_charged: i32,
    /// The cost of the vendor calls.
    actual_cost_micro_usd: Option<i64>,
    #[schemars(with = "Option<Cost>")]
    cost: Option<Value>,
    /// From request to end.
    processing_duration_ms: Option<i64>,
    /// The time that parts of the run took.
    performance: Performance,
    created_at: Timestamp,
    completed_at: Option<Timestamp>,
}

/// The cost of the vendor calls: in total, by vendor, and by call.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used; the database computes it")]
struct Cost {
    total_micro_usd: i64,
    apify_micro_usd: i64,
    openai_micro_usd: i64,
    anthropic_micro_usd: i64,
    /// How many calls have a cost that is not known yet. The sums contain what is known of them.
    unknown_calls: i64,
    calls: Vec<VendorCall>,
}

/// A call of a vendor.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "as above")]
struct VendorCall {
    /// What for: `scrape`, or one of the tier's questions.
    call: String,
    /// `apify`, `openai` or `anthropic`.
    provider: String,
    model: Option<String>,
    /// `success`, `error` or `timeout`.
    status: String,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    /// `null` while it is unknown.
    cost_micro_usd: Option<i64>,
    duration_ms: i64,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<RunId>("runId")
        .limited(&[GENERAL])
        .responds::<AnalysisResult>(200)
        .refuses(&errors::ANALYSIS_NOT_FOUND)
        .refuses(&errors::ANALYSIS_FAILED)
        .refuses(&errors::ANALYSIS_CANCELLED)
        .refuses(&errors::NOT_COMPLETE)
        .end();
}

/// Returns the result of a completed run: every field of its tier in one object, with the costs of the run.
#[endpoint(GET, "/api/analysis/{runId}/result")]
pub async fn get_result(request: Request, deps: Deps) -> Result<Reply, Problem> {
    let run_id: RunId = request.path("runId")?;
    tracing::Span::current().record("run_id", run_id.as_str());
    let view = deps.db.run(&request.caller.claims(), request.caller.requested_account, &run_id).await?;
    let Some(row) = view.run else {
        // A run that is accepted but not admitted has progress and no row. A run that has ended has a row, which is hidden once its lead is
        // deleted.
        let item = deps.progress.get(&run_id, request.received_at).await?;
        let is_accepted = item.is_some_and(|item| view.account_ids.contains(&item.run.account_id) && !item.status.is_terminal());
        return Err(if is_accepted { not_complete(&run_id, RunStatus::Pending) } else { Problem::of(&errors::ANALYSIS_NOT_FOUND) });
    };
    match row.status {
        RunStatus::Completed => Reply::ok(&result(&run_id, row)),
        RunStatus::Failed => {
            let code = row.error_code.unwrap_or(FailureCode::InternalError);
            let details = FailedRun { run_id, code, details: row.error_details, credits_refunded: row.credits_refunded };
            Err(Problem::with_details(&errors::ANALYSIS_FAILED, &details).message(code.message()))
        }
        RunStatus::Cancelled => {
            let details = CancelledRun { run_id, credits_refunded: row.credits_refunded };
            Err(Problem::with_details(&errors::ANALYSIS_CANCELLED, &details))
        }
        status => Err(not_complete(&run_id, status)),
    }
}

fn not_complete(run_id: &RunId, status: RunStatus) -> Problem {
    let progress_url = format!("/api/analysis/{run_id}/progress");
    Problem::with_details(&errors::NOT_COMPLETE, &IncompleteRun { run_id: run_id.clone(), status, progress_url })
}

/// Returns the tier's fields with the run's own, which take precedence.
fn result(run_id: &RunId, row: RunRow) -> Map<String, Value> {
    let mut fields = match row.ai_response {
        Value::Object(mut answers) => answers.remove("report").and_then(|report| report.as_object().cloned()).unwrap_or_default(),
        _ => Map::new(),
    };
    let own = json!(OwnFields {
        profile_warnings: fields.get("profile_warnings").cloned().unwrap_or_else(|| json!([])),
        run_id: run_id.clone(),
        lead_id: row.lead_id,
        analysis_id: row.analysis_id,
        status: row.status,
        username: row.username,
        analysis_type: row.tier,
        metrics: row.metrics,
        model_used: row.model_used,
        cache_hit: row.cache_hit,
        credits_charged: row.credits_charged,
        actual_cost_micro_usd: row.total_cost_micro_usd,
        cost: row.cost,
        performance: Performance::of(&row.steps, row.processing_duration_ms.unwrap_or_default()),
        processing_duration_ms: row.processing_duration_ms,
        created_at: row.created_at,
        completed_at: row.completed_at,
    });
    if let Value::Object(own) = own {
        fields.extend(own);
    }
    fields
}
