//! `POST /api/leads/analyze`

use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::{ANALYSES, STARTS};
use oslira_db::idempotency::Claim;
use oslira_db::runs::Precheck;
use oslira_domain::{AccountId, BusinessProfileId, ExecutionInput, Run, RunId, RunStatus, Tier, Username};
use oslira_http::errors::{LiveRun, Shortfall};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, Idempotency, Problem, Reply, Request, endpoint, errors, parsed};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::Deps;

/// The body of the request: the handle to analyze, the business to judge it for, and the tier.
#[derive(Debug)]
pub struct StartAnalysis {
    username: Username,
    business_profile_id: BusinessProfileId,
    tier: Tier,
}

impl FromFields for StartAnalysis {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let username = fields.required("username", parsed());
        let business_profile_id = fields.required("businessProfileId", parsed());
        let tier = fields.required("analysisType", parsed());
        Some(Self { username: username?, business_profile_id: business_profile_id?, tier: tier? })
    }
}

impl StartAnalysis {
    /// Refuses a run that its admission would refuse.
    fn refuse(&self, check: &Precheck) -> Result<(), Problem> {
        if !check.business_profile_exists {
            return Err(Problem::of(&errors::BUSINESS_PROFILE_NOT_FOUND));
        }
        if let Some(run_id) = &check.running {
            let details = LiveRun { run_id: run_id.clone(), progress_url: format!("/api/analysis/{run_id}/progress") };
            let message = format!("@{} is already being analyzed.", self.username);
            return Err(Problem::with_details(&errors::DUPLICATE_ANALYSIS, &details).message(message));
        }
        if check.disputed {
            return Err(Problem::of(&errors::SPENDING_SUSPENDED));
        }
        let (available, required) = (check.available, self.tier.credits().0);
        if available < required {
            let message = format!("The analysis costs {required} credits, and {available} are available.");
            return Err(Problem::with_details(&errors::INSUFFICIENT_CREDITS, &Shortfall { available, required }).message(message));
        }
        Ok(())
    }

    fn run(self, run_id: RunId, account_id: AccountId, request: &Request) -> Run {
        Run {
            run_id,
            account_id,
            business_profile_id: self.business_profile_id,
            requested_by: request.caller.user_id,
            username: self.username,
            tier: self.tier,
            requested_at_ms: request.received_at.as_millisecond(),
        }
    }
}

/// An accepted analysis and where to follow it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StartedAnalysis")]
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

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .body::<StartAnalysis>()
        .idempotent()
        .limited(&[STARTS, ANALYSES])
        .responds::<Started>(202)
        .refuses(&errors::INSUFFICIENT_CREDITS)
        .refuses(&errors::SPENDING_SUSPENDED)
        .requires_account()
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::BUSINESS_PROFILE_NOT_FOUND)
        .refuses(&errors::DUPLICATE_ANALYSIS)
        .end();
}

/// Starts an analysis of a profile for a business profile of the account. It continues in the background. Requires at least the role
/// `member`.
///
/// The endpoint checks balance, business profile and duplicates, so that common errors are reported at once. The run's admission checks them
/// again when it charges the run. A run that is not admitted fails with the same code and is not charged.
///
/// Repeating the request with the same `Idempotency-Key` returns the first response and does not start a second run. A request that was
/// refused leaves its key unused.
#[endpoint(POST, "/api/leads/analyze")]
pub async fn start_analysis(request: Request, deps: Deps, executions: Executions) -> Result<Reply, Problem> {
    let input: StartAnalysis = request.body()?;
    let idempotency = Idempotency::of(&request)?;
    let (caller, claims) = (&request.caller, request.caller.claims());
    // Refused requests do not count as analyses, so they have a limit of their own.
    let subject = caller.user_id.to_string();
    let (within_limit, found) = tokio::join!(
        deps.guard.count(STARTS, &subject, 1),
        deps.db.precheck(&claims, caller.requested_account, input.business_profile_id, &input.username, idempotency.key())
    );
    within_limit?;
    let check = found?.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    if !check.can_spend {
        return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot spend credits."));
    }
    if check.claim.is_none() {
        input.refuse(&check)?;
    }
    let run = input.run(RunId::new(Uuid::now_v7()), check.account_id, &request);
    let (claim, limit) = if let Some(claim) = check.claim {
        (claim, None) // an earlier request with the key was checked and counted
    } else {
        let account = run.account_id.to_string();
        let limit = deps.guard.count(ANALYSES, &account, 1).await?;
        let claim = idempotency.claim(&deps.db, run.account_id, run.run_id.as_str(), &accepted(&run)?).await?;
        if matches!(&claim, Claim::Claimed { work_id, .. } if work_id == run.run_id.as_str()) {
            (claim, limit)
        } else {
            // Repeats that arrive together are all counted before one of them claims the key.
            deps.guard.give_back(limit, &account, 1).await;
            (claim, None)
        }
    };
    let start = async |run_id: &str| {
        let run_id = run_id.parse().map_err(|_| Problem::of(&errors::IDEMPOTENCY_KEY_REUSED))?;
        let run = Run { run_id, ..run.clone() };
        let reply = accepted(&run)?;
        start_execution(run, &request, &deps, &executions).await?;
        Ok(reply)
    };
    Ok(idempotency.once(&deps.db, run.account_id, claim, start).await?.with_limit(limit))
}

/// Starts the execution of a run, which is idempotent by the run's id, and writes its first progress.
async fn start_execution(run: Run, request: &Request, deps: &Deps, executions: &Executions) -> Result<(), Problem> {
    tracing::Span::current().record("run_id", run.run_id.as_str()).record("account_id", run.account_id.to_string());
    let now = Timestamp::now();
    let duration_us = i64::try_from(now.duration_since(request.received_at).as_micros()).unwrap_or(0);
    let input = ExecutionInput::accepted(run, duration_us);
    let (written, started) = tokio::join!(deps.progress.create(&input, now), executions.start(&input));
    if let Err(error) = written {
        tracing::warn!(%error, "progress not written"); // the first task writes it
    }
    started.map_err(Problem::from)
}

fn accepted(run: &Run) -> Result<Reply, Problem> {
    let base = format!("/api/analysis/{}", run.run_id);
    Reply::accepted(&Started {
        run_id: run.run_id.clone(),
        status: RunStatus::Pending,
        username: run.username.clone(),
        analysis_type: run.tier,
        credits_required: run.tier.credits().0,
        progress_url: format!("{base}/progress"),
        result_url: format!("{base}/result"),
        cancel_url: format!("{base}/cancel"),
        message: "The analysis has started.",
    })
}
