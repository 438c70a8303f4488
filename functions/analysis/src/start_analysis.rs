//! `POST /api/leads/analyze`

use http::StatusCode;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::{ANALYSES, STARTS};
use oslira_domain::{BusinessProfileId, Run, RunId, RunStatus, Step, StepTiming, Tier, Username};
use oslira_http::{Fields, FromFields, Problem, Reply, Request, text};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::Deps;

/// Whom to analyse, for which business, how deep.
#[derive(Debug)]
pub struct StartAnalysis {
    username: Username,
    business_profile_id: BusinessProfileId,
    tier: Tier,
}

impl FromFields for StartAnalysis {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let username = fields.required("username", text);
        let business_profile_id = fields.required("businessProfileId", text);
        let tier = fields.required("analysisType", text);
        Some(Self { username: username?, business_profile_id: business_profile_id?, tier: tier? })
    }
}

/// An accepted analysis and where to follow it.
#[derive(Debug, Serialize)]
pub struct Started {
    run_id: RunId,
    status: RunStatus,
    username: Username,
    analysis_type: Tier,
    credits_required: i32,
    progress_url: String,
    result_url: String,
    cancel_url: String,
    message: &'static str,
}

/// Starts an analysis of a profile for one of the account's businesses; 202, the work goes on in the background.
///
/// The checks here answer the common refusals at once. They promise nothing: the run's admission, which charges it, decides for
/// good, and a run that it refuses ends failed with the same code, uncharged.
///
/// # Errors
/// `INSUFFICIENT_CREDITS` 402, `FORBIDDEN` 403 for a viewer, `NOT_FOUND` 404 for a business profile that is not the account's,
/// `DUPLICATE_ANALYSIS` 409 with the live run of the same handle, `RATE_LIMIT_EXCEEDED` 429 above 100 an hour and account.
pub async fn start_analysis(request: Request, deps: Deps, executions: Executions) -> Result<Reply, Problem> {
    let input: StartAnalysis = request.body()?;
    let caller = &request.caller;
    // Refused requests do not count as analyses, so they have a limit of their own.
    let subject = caller.user_id.to_string();
    let claims = caller.claims();
    let (within, found) = tokio::join!(
        deps.gateway.count(STARTS, &subject, 1),
        deps.db.precheck(&claims, caller.account_id, input.business_profile_id, &input.username)
    );
    within?;
    let check = found?.ok_or_else(|| Problem::no_account(caller.account_id))?;
    let required = input.tier.credits().0;
    if !check.can_spend {
        return Err(Problem::forbidden("Viewers cannot spend credits."));
    }
    if !check.business_profile_exists {
        return Err(Problem::not_found("Business profile"));
    }
    if let Some(running) = check.running {
        let links = json!({ "run_id": running, "progress_url": format!("/api/analysis/{running}/progress") });
        let message = format!("@{} is being analysed already.", input.username);
        return Err(Problem::new(StatusCode::CONFLICT, "DUPLICATE_ANALYSIS", message).with_details(links));
    }
    if check.available < required {
        let message = format!("This analysis costs {required} credits, {} are left.", check.available);
        let details = json!({ "available": check.available, "required": required });
        return Err(Problem::new(StatusCode::PAYMENT_REQUIRED, "INSUFFICIENT_CREDITS", message).with_details(details));
    }
    let standing = deps.gateway.count(ANALYSES, &check.account_id.to_string(), 1).await?;

    let run = Run {
        run_id: RunId::new(Uuid::now_v7()),
        account_id: check.account_id,
        business_profile_id: input.business_profile_id,
        requested_by: caller.user_id,
        username: input.username,
        tier: input.tier,
        requested_at_ms: request.received_at.as_millisecond(),
    };
    let span = tracing::Span::current();
    span.record("run_id", run.run_id.as_str()).record("account_id", run.account_id.to_string());
    let now = Timestamp::now();
    let accepted = [StepTiming {
        step: Step::GenerateRunId,
        started_at_ms: run.requested_at_ms,
        duration_us: i64::try_from(now.duration_since(request.received_at).as_micros()).unwrap_or(0),
    }];
    let (announced, started) = tokio::join!(deps.progress.create(&run, &accepted, now), executions.start(&run, &accepted));
    if let Err(error) = announced {
        tracing::warn!(%error, "progress not announced"); // the tasks will write it
    }
    started?;
    let (run_id, base) = (run.run_id.clone(), format!("/api/analysis/{}", run.run_id));
    Ok(Reply::accepted(&Started {
        run_id,
        status: RunStatus::Pending,
        username: run.username,
        analysis_type: run.tier,
        credits_required: required,
        progress_url: format!("{base}/progress"),
        result_url: format!("{base}/result"),
        cancel_url: format!("{base}/cancel"),
        message: "The analysis has started.",
    })?
    .with_limit(standing))
}
