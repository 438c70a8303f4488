//! `Save`: steps 10 to 12 in one transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oslira_aws::profiles::Profiles;
use oslira_db::workflow::StoredReport;
use oslira_domain::assessment::merge;
use oslira_domain::metrics::Metrics;
use oslira_domain::{FailureCode, LeadId, RunStatus, Step};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::error::TaskError;
use crate::state::SaveInput;
use crate::task::{Deps, ensure_active, input, log_progress_error};

/// The output of the execution.
#[derive(Debug, Serialize)]
pub struct Saved {
    lead_id: Option<LeadId>,
    analysis_id: Uuid,
}

/// Merges the answers into a report and stores lead, results and the run's end, all or nothing. The run's row is locked first, so that a
/// cancellation and a completion cannot both win.
///
/// # Errors
/// Terminal with `AI_INVALID_OUTPUT` if the answers make no report, or for a run that was cancelled meanwhile.
pub async fn save(payload: Value, deps: Deps, profiles: Profiles) -> Result<Saved, TaskError> {
    let SaveInput { run, admission, profile, analysis } = input(payload)?;
    let steps = [admission.steps, profile.steps, analysis.steps].concat();
    let (answers, cached, ()) = tokio::join!(deps.db.ai_answers(&run.run_id), profiles.get(&profile.at), async {
        log_progress_error(deps.progress.advance(&run, Step::UpsertLead, &steps, Timestamp::now()).await);
    });
    let answers = answers?.ok_or_else(|| TaskError::Defect("the run was never admitted".to_owned()))?;
    let entry = cached?.ok_or_else(|| TaskError::Defect("the profile has left the cache".to_owned()))?;
    let answers: BTreeMap<String, Value> = run
        .tier
        .calls()
        .iter()
        .filter_map(|call| answers.get(call.as_str()).map(|answer| (call.as_str().to_owned(), answer.clone())))
        .collect();
    let report = merge(run.tier, &answers, &entry.profile).map_err(|error| {
        tracing::warn!(%error, "the answers make no report");
        TaskError::Terminal(FailureCode::AiInvalidOutput)
    })?;
    let metrics =
        serde_json::to_value(Metrics::of(&entry.profile, entry.scraped_at)).map_err(|error| TaskError::Defect(error.to_string()))?;
    let stored = StoredReport {
        overall_score: report.overall_score,
        niche_fit_score: report.niche_fit_score,
        engagement_score: report.engagement_score,
        confidence_level: report.confidence_level,
        summary_text: &report.summary_text,
        fields: &report.fields,
    };
    let done = deps.db.complete(&run.run_id, &entry.profile, &stored, &metrics, profile.hit, &steps).await?;
    if done.status != RunStatus::Completed {
        ensure_active(Some((done.status, done.error_code)))?;
    }
    deps.write_end(&run.run_id, RunStatus::Completed, None, &done.steps).await;
    Ok(Saved { lead_id: done.lead_id.map(LeadId), analysis_id: done.analysis_id })
}
