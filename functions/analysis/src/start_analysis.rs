//! `POST /api/leads/analyze`

use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::{ANALYSES, STARTS};
use oslira_domain::{AccountId, BusinessProfileId, Run, RunId, RunStatus, Step, StepTiming, Tier, Username};
use oslira_http::errors::{LiveRun, Shortfall};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, Problem, Reply, Request, endpoint, errors, parsed};
use schemars::JsonSchema;
use serde::Serialize;
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
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let username = fields.required("username", parsed());
        let business_profile_id = fields.required("businessProfileId", parsed());
        let tier = fields.required("analysisType", parsed());
        Some(Self { username: username?, business_profile_id: business_profile_id?, tier: tier? })
    }
}

impl StartAnalysis {
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
    let key = request.idempotency_key()?;
    let caller = &request.caller;
    // Refused requests do not count as analyses, so they have a limit of their own.
    let subject = caller.user_id.to_string();
    let claims = caller.claims();
    let (within, found) = tokio::join!(
        deps.gateway.count(STARTS, &subject, 1),
        deps.db.precheck(&claims, caller.requested_account, input.business_profile_id, &input.username, key.as_ref().map(|key| &*key.key))
    );
    within?;
    let check = found?.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    let required = input.tier.credits().0;
    if !check.can_spend {
        return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot spend credits."));
    }
    if let (Some(key), Some(used)) = (&key, check.key) {
        if used.request_hash != key.hash {
            return Err(Problem::of(&errors::IDEMPOTENCY_KEY_REUSED));
        }
        if used.known {
            return Reply::replay(&used.answer);
        }
        // Its process died before it started the run, or the run is on its way.
        deps.gateway.count(ANALYSES, &check.account_id.to_string(), 1).await?;
        let run = input.run(used.work_id.parse().map_err(|_| Problem::of(&errors::IDEMPOTENCY_KEY_REUSED))?, check.account_id, &request);
        return repeat(run, &used.answer, &executions).await;
    }
    if !check.business_profile_exists {
        return Err(Problem::of(&errors::BUSINESS_PROFILE_NOT_FOUND));
    }
    if let Some(running) = check.running {
        let progress_url = format!("/api/analysis/{running}/progress");
        let details = LiveRun { run_id: running, progress_url };
        let message = format!("@{} is already being analyzed.", input.username);
        return Err(Problem::with_details(&errors::DUPLICATE_ANALYSIS, &details).message(message));
    }
    if check.available < required {
        let message = format!("The analysis costs {required} credits, and {} are available.", check.available);
        let details = Shortfall { available: check.available, required };
        return Err(Problem::with_details(&errors::INSUFFICIENT_CREDITS, &details).message(message));
    }
    let standing = deps.gateway.count(ANALYSES, &check.account_id.to_string(), 1).await?;

    let run = input.run(RunId::new(Uuid::now_v7()), check.account_id, &request);
    let span = tracing::Span::current();
    span.record("run_id", run.run_id.as_str()).record("account_id", run.account_id.to_string());
    let reply = accepted(&run)?;
    if let Some(key) = &key {
        // The run's id and the answer are written down with the key before anything starts: whoever repeats the request finds this run,
        // and starts it if this process dies before it could.
        let stored = reply.to_stored(&request.request_id, request.received_at);
        let claim = deps.db.claim_key(&claims, check.account_id, (&key.key, &key.hash), run.run_id.as_str(), &stored).await?;
        match (claim.outcome.as_str(), claim.work_id, claim.answer) {
            ("claimed", ..) => {}
            ("replay", Some(id), Some(answer)) => {
                let twin = Run { run_id: id.parse().map_err(|_| Problem::of(&errors::IDEMPOTENCY_KEY_REUSED))?, ..run };
                return repeat(twin, &answer, &executions).await;
            }
            ("mismatch", ..) => return Err(Problem::of(&errors::IDEMPOTENCY_KEY_REUSED)),
            _ => return Err(Problem::of(&errors::IDEMPOTENCY_KEY_IN_USE)),
        }
        begin(&run, &request, &deps, &executions).await?;
        return Ok(Reply::replay(&stored)?.with_limit(standing));
    }
    begin(&run, &request, &deps, &executions).await?;
    Ok(reply.with_limit(standing))
}

/// Starts the execution, and shows that the run was accepted.
async fn begin(run: &Run, request: &Request, deps: &Deps, executions: &Executions) -> Result<(), Problem> {
    let now = Timestamp::now();
    let steps = [first_step(run, now.duration_since(request.received_at).as_micros())];
    let (announced, started) = tokio::join!(deps.progress.create(run, &steps, now), executions.start(run, &steps));
    if let Err(error) = announced {
        tracing::warn!(%error, "progress not announced"); // the tasks will write it
    }
    started.map_err(Problem::from)
}

/// The first answer again, and the start too: it is idempotent by the run's id.
async fn repeat(run: Run, answer: &str, executions: &Executions) -> Result<Reply, Problem> {
    tracing::Span::current().record("run_id", run.run_id.as_str()).record("account_id", run.account_id.to_string());
    executions.start(&run, &[first_step(&run, 0)]).await?;
    Reply::replay(answer)
}

fn first_step(run: &Run, duration_us: i128) -> StepTiming {
    StepTiming { step: Step::GenerateRunId, started_at_ms: run.requested_at_ms, duration_us: i64::try_from(duration_us).unwrap_or(0) }
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
