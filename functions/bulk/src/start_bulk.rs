//! `POST /api/leads/analyze/bulk`

use std::collections::BTreeMap;

use oslira_aws::limits::{ANALYSES, BULK_REQUESTS, STARTS};
use oslira_aws::queues::Queue;
use oslira_db::bulk::{BatchCreation, BulkPrecheck, CreatedBatch, NewBatch, NewRun};
use oslira_db::idempotency::Claim;
use oslira_domain::{BatchId, BusinessProfileId, RunId, Tier, Username};
use oslira_http::openapi::Api;
use oslira_http::{ApiError, Endpoint, Fault, Fields, FromFields, Idempotency, Problem, Reply, Request, endpoint, errors, parsed};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::group::Group;
use crate::handles::{HandleList, Handles, Refusal};

/// The body of the request: the handles to analyze, the business to judge them for, and the tier.
#[derive(Debug)]
pub struct StartBulk {
    handles: Handles,
    business_profile_id: BusinessProfileId,
    tier: Tier,
}

impl FromFields for StartBulk {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let handles = fields.required("usernames", HandleList);
        let business_profile_id = fields.required("businessProfileId", parsed());
        let tier = fields.required("analysisType", parsed());
        Some(Self { handles: handles?, business_profile_id: business_profile_id?, tier: tier? })
    }
}

/// An accepted batch and where to follow it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StartedBatch")]
struct Started {
    batch_id: BatchId,
    analysis_type: Tier,
    total_count: usize,
    queued: usize,
    failed: usize,
    /// How many of the queued analyses the balance pays for.
    affordable: usize,
    credits_required: i64,
    credits_available: i32,
    analyses: Vec<Entry>,
    batch_progress_url: String,
    batch_cancel_url: String,
    message: String,
}

/// Whether a handle's analysis is on its way.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EntryStatus {
    /// It is.
    Queued,
    /// It is not, and `error` says why.
    Failed,
}

/// What became of one handle of the request.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BatchEntry")]
struct Entry {
    username: String,
    run_id: Option<RunId>,
    status: EntryStatus,
    progress_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

/// The credits that are available, those that one analysis requires, and how many analyses the balance covers.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BulkShortfall")]
struct Shortfall {
    available: i32,
    required: i32,
    affordable: i32,
}

/// The outcome for each handle.
#[derive(Serialize, JsonSchema)]
struct AllRunning {
    analyses: Vec<Entry>,
}

/// The balance does not cover a single analysis.
const NONE_AFFORDABLE: ApiError<Shortfall> =
    errors::INSUFFICIENT_CREDITS.details().meaning("The balance does not cover a single analysis of the batch.");
/// Every handle has a live run.
const ALL_RUNNING: ApiError<AllRunning> =
    errors::DUPLICATE_ANALYSIS.details().meaning("All handles are already being analyzed for this business profile.");

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .body::<StartBulk>()
        .idempotent()
        .limited(&[STARTS, BULK_REQUESTS, ANALYSES])
        .responds::<Started>(202)
        .refuses(&NONE_AFFORDABLE)
        .refuses(&errors::SPENDING_SUSPENDED)
        .requires_account()
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::BUSINESS_PROFILE_NOT_FOUND)
        .refuses(&ALL_RUNNING)
        .end();
}

/// Starts analyses of up to 100 profiles for a business profile of the account. They continue in the background. Requires at least the role
/// `member`.
///
/// Invalid handles, duplicates within the request and handles that are already being analyzed are reported one by one and do not affect the
/// others. The others are recorded in one transaction and queued in groups. Each run is charged when it is admitted: if the credits do not
/// suffice for all, the remaining runs fail with `INSUFFICIENT_CREDITS` and are not charged. The account's hourly limit of analyses counts
/// every handle.
///
/// Repeating the request with the same `Idempotency-Key` returns the first response and does not create a second batch. After a 503 the
/// repetition continues with the recorded batch; without a key, nothing was started.
#[endpoint(POST, "/api/leads/analyze/bulk")]
pub async fn start_bulk(request: Request, endpoint: Endpoint, queue: Queue) -> Result<Reply, Problem> {
    let input: StartBulk = request.body()?;
    let idempotency = Idempotency::of(&request)?;
    let Endpoint { guard, db } = &endpoint;
    let (caller, claims) = (&request.caller, request.caller.claims());
    let subject = caller.user_id.to_string();
    let handles: Vec<Username> = input.handles.valid().cloned().collect();
    let (within_limit, found) = tokio::join!(
        guard.count(STARTS, &subject, 1),
        db.bulk_precheck(&claims, caller.requested_account, input.business_profile_id, &handles, idempotency.key())
    );
    within_limit?;
    let check = found?.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    if !check.can_spend {
        return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot spend credits."));
    }
    let account = check.account_id.to_string();
    let (count, counted) = match check.claim {
        Some(claim) if !claim.is_open() => return idempotency.replay(claim),
        // An earlier request with the key was checked and counted. The claim decides whether its process may still be alive.
        Some(_) => (0, [None, None]),
        None => {
            let count = input.startable(&check)?;
            (count, [guard.count(BULK_REQUESTS, &account, 1).await?, guard.count(ANALYSES, &account, count).await?])
        }
    };

    let runs: Vec<NewRun> = handles.into_iter().map(|username| NewRun { run_id: RunId::new(Uuid::now_v7()), username }).collect();
    let batch_id = BatchId::new(Uuid::now_v7());
    let batch = NewBatch {
        batch_id: &batch_id,
        account_id: check.account_id,
        business_profile_id: input.business_profile_id,
        tier: input.tier,
        runs: &runs,
        key: idempotency.key(),
    };
    let created = db.create_batch(&claims, &batch).await?;
    let [requests, analyses] = counted;
    let is_new = matches!(&created, BatchCreation::Created(batch) if batch.batch_id == batch_id);
    if !is_new {
        // Repeats that arrive together are all counted before one of them claims the key.
        tokio::join!(guard.give_back(requests, &account, 1), guard.give_back(analyses, &account, count));
    }
    let batch = match created {
        BatchCreation::Created(batch) => batch,
        BatchCreation::KeyClaimed { claim } => return idempotency.replay(claim),
        BatchCreation::NoAccount => return Err(Problem::no_account(caller.requested_account)),
        BatchCreation::Forbidden => return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot spend credits.")),
        BatchCreation::NoProfile => return Err(Problem::of(&errors::BUSINESS_PROFILE_NOT_FOUND)),
        BatchCreation::Suspended => return Err(Problem::of(&errors::SPENDING_SUSPENDED)),
        BatchCreation::Insufficient { available } => return Err(input.insufficient(available)),
        BatchCreation::Duplicates { running } => return Err(input.all_running(&running)),
        BatchCreation::TooMany => {
            let message = "Too many analyses are pending. Please wait until they have ended.";
            return Err(Problem::of(&errors::RATE_LIMIT_EXCEEDED).message(message).retry_after(600));
        }
    };
    tracing::Span::current().record("account_id", &account);
    tracing::info!(batch_id = %batch.batch_id, runs = batch.runs.len(), "batch recorded");
    let claim = Claim::Claimed { work_id: batch.batch_id.to_string(), answer: None };
    let start = async |_: &str| {
        if let Err(error) = enqueue(&queue, &batch).await {
            // With a key the next repeat queues the groups. Without one the batch is cancelled.
            if idempotency.key().is_none()
                && let Err(error) = db.cancel_batch(&claims, Some(check.account_id), &batch.batch_id).await
            {
                tracing::warn!(%error, "batch neither queued nor cancelled"); // the hourly schedule ends its runs
            }
            return Err(error);
        }
        input.accepted(batch)
    };
    Ok(idempotency.once(db, check.account_id, claim, start).await?.with_limit(analyses.filter(|_| is_new)))
}

/// Sends the groups of a batch's live runs to the queue, ten a request.
async fn enqueue(queue: &Queue, batch: &CreatedBatch) -> Result<(), Problem> {
    let live = batch.runs.iter().filter(|run| !run.status.is_terminal());
    let groups = Group::all(&batch.batch_id, &live.map(|run| run.run_id.clone()).collect::<Vec<_>>());
    let bodies = groups.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(Problem::internal)?;
    for bodies in bodies.chunks(10) {
        queue.send_all(bodies.to_vec()).await?;
    }
    Ok(())
}

impl StartBulk {
    /// Returns how many analyses the request can start, before anything is recorded.
    fn startable(&self, check: &BulkPrecheck) -> Result<u32, Problem> {
        if !check.business_profile_exists {
            return Err(Problem::of(&errors::BUSINESS_PROFILE_NOT_FOUND));
        }
        if self.handles.valid().next().is_none() {
            let faults = self.handles.0.iter().enumerate().filter_map(|(number, entry)| {
                Some(Fault::invalid(&format!("usernames[{number}]"), entry.handle.as_ref().err()?.message.clone()))
            });
            return Err(faults.collect::<Vec<_>>().into());
        }
        let free = self.handles.valid().filter(|handle| !check.running.contains_key(handle.as_str())).count();
        if free == 0 {
            return Err(self.all_running(&check.running));
        }
        if check.disputed {
            return Err(Problem::of(&errors::SPENDING_SUSPENDED));
        }
        if check.available < self.tier.credits().0 {
            return Err(self.insufficient(check.available));
        }
        Ok(u32::try_from(free).unwrap_or(u32::MAX))
    }

    fn insufficient(&self, available: i32) -> Problem {
        let required = self.tier.credits().0;
        let message = format!("Each analysis costs {required} credits, and {available} are available.");
        Problem::with_details(&NONE_AFFORDABLE, &Shortfall { available, required, affordable: 0 }).message(message)
    }

    fn all_running(&self, running: &BTreeMap<String, RunId>) -> Problem {
        Problem::with_details(&ALL_RUNNING, &AllRunning { analyses: self.entries(&BTreeMap::new(), running) })
    }

    /// Returns what happens to each entry of the request, in its order.
    fn entries(&self, runs: &BTreeMap<String, RunId>, running: &BTreeMap<String, RunId>) -> Vec<Entry> {
        let of = |entry: &crate::handles::Entry| {
            let outcome = entry.handle.as_ref().map_err(Clone::clone).and_then(|username| {
                let queued = runs.get(username.as_str());
                queued.ok_or_else(|| Refusal::running(username, running.get(username.as_str()).cloned()))
            });
            let (run_id, error) = match outcome {
                Ok(run_id) => (Some(run_id.clone()), None),
                Err(refusal) => (None, Some(refusal)),
            };
            Entry {
                username: entry.text.clone(),
                status: if run_id.is_some() { EntryStatus::Queued } else { EntryStatus::Failed },
                progress_url: run_id.as_ref().map(|run_id| format!("/api/analysis/{run_id}/progress")),
                run_id,
                error,
            }
        };
        self.handles.0.iter().map(of).collect()
    }

    fn accepted(&self, batch: CreatedBatch) -> Result<Reply, Problem> {
        let CreatedBatch { batch_id, available, runs, running } = batch;
        let runs: BTreeMap<String, RunId> = runs.into_iter().map(|run| (run.username.to_string(), run.run_id)).collect();
        let analyses = self.entries(&runs, &running);
        let (queued, price) = (runs.len(), self.tier.credits().0.max(1));
        let affordable = usize::try_from(available / price).unwrap_or_default().min(queued);
        let message = if affordable < queued {
            format!("{queued} analyses are queued; the credits that are left pay for {affordable} of them.")
        } else {
            format!("{queued} analyses are queued.")
        };
        Reply::accepted(&Started {
            analysis_type: self.tier,
            total_count: analyses.len(),
            queued,
            failed: analyses.len() - queued,
            affordable,
            credits_required: i64::from(price) * i64::try_from(queued).unwrap_or(i64::MAX),
            credits_available: available,
            analyses,
            batch_progress_url: format!("/api/leads/analyze/bulk/{batch_id}/progress"),
            batch_cancel_url: format!("/api/leads/analyze/bulk/{batch_id}/cancel"),
            message,
            batch_id,
        })
    }
}
