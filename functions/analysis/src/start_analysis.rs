//! `POST /api/leads/analyze`

use http::StatusCode;
use jiff::Timestamp;
use oslira_aws::executions::Executions;
use oslira_aws::limits::{ANALYSES, STARTS};
use oslira_domain::{AccountId, BusinessProfileId, Run, RunId, RunStatus, Step, StepTiming, Tier, Username};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, Problem, Reply, Request, text};
use schemars::JsonSchema;
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
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let username = fields.required("username", text());
        let business_profile_id = fields.required("businessProfileId", text());
        let tier = fields.required("analysisType", text());
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

/// The run that is in the way.
#[derive(Serialize, JsonSchema)]
struct Running {
    run_id: RunId,
    progress_url: String,
}

/// What there is and what it takes.
#[derive(Serialize, JsonSchema)]
struct Shortfall {
    available: i32,
    required: i32,
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("start_analysis.rs"))
        .body::<StartAnalysis>()
        .idempotent()
        .limited(&[STARTS, ANALYSES])
        .answers::<Started>(202)
        .refuses(402, "INSUFFICIENT_CREDITS", "The balance does not cover the tier's price.")
        .details::<Shortfall>()
        .needs_account()
        .not_for_viewers()
        .not_found("business profile")
        .refuses(409, "DUPLICATE_ANALYSIS", "The handle is being analysed for this business already.")
        .details::<Running>()
        .end();
}

/// Starts an analysis of a profile for one of the account's businesses; 202, the work goes on in the background.
///
/// The checks here answer the common refusals at once. They promise nothing: the run's admission, which charges it, decides for
/// good, and a run that it refuses ends failed with the same code, uncharged.
///
/// With an `Idempotency-Key` a repeated request gets the first answer, word for word, and never a second run. A request that was refused
/// leaves its key unused.
///
/// # Errors
/// `INSUFFICIENT_CREDITS` 402, `FORBIDDEN` 403 for a viewer, `NOT_FOUND` 404 for a business profile that is not the account's,
/// `DUPLICATE_ANALYSIS` 409 with the live run of the same handle, `IDEMPOTENCY_KEY_REUSED` 422 for another request with the same key, `RATE_LIMIT_EXCEEDED` 429 above 100 an hour and account.
pub async fn start_analysis(request: Request, deps: Deps, executions: Executions) -> Result<Reply, Problem> {
    let input: StartAnalysis = request.body()?;
    let key = request.idempotency_key()?;
    let caller = &request.caller;
    // Refused requests do not count as analyses, so they have a limit of their own.
    let subject = caller.user_id.to_string();
    let claims = caller.claims();
    let (within, found) = tokio::join!(
        deps.gateway.count(STARTS, &subject, 1),
        deps.db.precheck(&claims, caller.account_id, input.business_profile_id, &input.username, key.as_ref().map(|key| &*key.key))
    );
    within?;
    let check = found?.ok_or_else(|| Problem::no_account(caller.account_id))?;
    let required = input.tier.credits().0;
    if !check.can_spend {
        return Err(Problem::forbidden("Viewers cannot spend credits."));
    }
    if let (Some(key), Some(used)) = (&key, check.key) {
        if used.request_hash != key.hash {
            return Err(Problem::key_reused());
        }
        if used.known {
            return Reply::repeated(&used.answer);
        }
        // Its process died before it started the run, or the run is on its way.
        deps.gateway.count(ANALYSES, &check.account_id.to_string(), 1).await?;
        let run = input.run(used.work_id.parse().map_err(|_| Problem::key_reused())?, check.account_id, &request);
        return repeat(run, &used.answer, &executions).await;
    }
    if !check.business_profile_exists {
        return Err(Problem::not_found("Business profile"));
    }
    if let Some(running) = check.running {
        let progress_url = format!("/api/analysis/{running}/progress");
        let links = json!(Running { run_id: running, progress_url });
        let message = format!("@{} is being analysed already.", input.username);
        return Err(Problem::new(StatusCode::CONFLICT, "DUPLICATE_ANALYSIS", message).with_details(links));
    }
    if check.available < required {
        let message = format!("This analysis costs {required} credits, {} are left.", check.available);
        let details = json!(Shortfall { available: check.available, required });
        return Err(Problem::new(StatusCode::PAYMENT_REQUIRED, "INSUFFICIENT_CREDITS", message).with_details(details));
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
                let twin = Run { run_id: id.parse().map_err(|_| Problem::key_reused())?, ..run };
                return repeat(twin, &answer, &executions).await;
            }
            ("mismatch", ..) => return Err(Problem::key_reused()),
            _ => return Err(Problem::key_in_use()),
        }
        begin(&run, &request, &deps, &executions).await?;
        return Ok(Reply::repeated(&stored)?.with_limit(standing));
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
    Reply::repeated(answer)
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
