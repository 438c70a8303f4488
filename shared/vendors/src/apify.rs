//! Apify: starts Actor runs that fetch Instagram profiles, waits for them and reads what they found.
//!
//! Facts from Apify's `OpenAPI` description of 2026-08-07. An Actor run cannot be started idempotently: a lost response to `start` may leave
//! one behind, which ends after its timeout and is on Apify's invoice (a fraction of a cent a profile). It is not searched for: the list of
//! Actor runs does not contain their inputs, so finding it would cost a request for every Actor run of the last minutes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oslira_credential::Credential;
use oslira_domain::{Profile, Username};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::VendorError;
use crate::actor_cost::{ActorCost, ReportedCost};
use crate::scraped::{FIELDS, outcomes};
use crate::wire::{BROKEN_OFF, Reply, code};

const ACTOR: &str = "apify~instagram-profile-scraper";
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const ITEMS_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_RUN_BYTES: usize = 1 << 20;
/// A hundred profiles with twelve posts each take about 20 MB.
const MAX_ITEMS_BYTES: usize = 64 << 20;
/// Apify's maximum for one poll.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// The secret `apify`.
#[derive(Debug, Clone, Deserialize)]
pub struct ApifySecret {
    /// The API token.
    pub token: SecretString,
}

/// The client.
#[derive(Debug, Clone)]
pub struct Apify {
    http: Client,
    base_url: String,
    secret: Credential<ApifySecret>,
}

/// An Actor run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorRun {
    /// Apify's id of the Actor run.
    pub id: String,
    /// The dataset that holds its items.
    pub dataset_id: String,
    /// Its status.
    pub status: ActorRunStatus,
    /// What it cost, as far as Apify reports it.
    pub cost: ActorCost,
    /// When it ended, which is also the age of its items.
    pub finished_at: Option<Timestamp>,
}

/// The status of an Actor run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorRunStatus {
    /// Waiting, running, or about to end.
    Running,
    /// Succeeded. Single profiles may still be missing or blocked.
    Succeeded,
    /// Failed.
    Failed,
    /// Ended by Apify at its timeout.
    TimedOut,
    /// Ended by this backend or an operator.
    Aborted,
}

impl ActorRunStatus {
    /// Whether the Actor run has ended.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Running)
    }

    /// Returns the status to record: `success`, `error`, or `timeout` for one that ran out of time, Apify's or the caller's.
    pub const fn recorded_as(self) -> &'static str {
        match self {
            Self::Succeeded => "success",
            Self::Running | Self::TimedOut => "timeout",
            Self::Failed | Self::Aborted => "error",
        }
    }

    fn parse(status: &str) -> Result<Self, VendorError> {
        match status {
            "READY" | "RUNNING" | "TIMING-OUT" | "ABORTING" => Ok(Self::Running),
            "SUCCEEDED" => Ok(Self::Succeeded),
            "FAILED" => Ok(Self::Failed),
            "TIMED-OUT" => Ok(Self::TimedOut),
            "ABORTED" => Ok(Self::Aborted),
            _ => Err(VendorError::Invalid("an unknown status of an Actor run")),
        }
    }
}

/// The outcome of one requested handle.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapedItem {
    /// The requested handle.
    pub username: Username,
    /// What was found for it.
    pub outcome: ScrapeOutcome,
}

/// What an Actor run found for a handle.
#[derive(Debug, Clone, PartialEq)]
pub enum ScrapeOutcome {
    /// A public profile.
    Found(Profile),
    /// A profile whose posts only its followers can see.
    Private(Profile),
    /// A public profile that has posts, of which none came. Another Actor run may bring them.
    WithoutPosts,
    /// Instagram has no such profile.
    NotFound,
    /// Instagram shows the profile only to users of some age or in some countries, to which the Actor does not belong.
    Restricted,
    /// Instagram returned nothing this time. Another Actor run may find the profile.
    Blocked,
}

#[derive(Deserialize)]
struct Envelope {
    data: RunBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunBody {
    id: String,
    status: String,
    default_dataset_id: String,
    finished_at: Option<Timestamp>,
    #[serde(flatten)]
    reported: ReportedCost,
}

#[derive(Deserialize)]
struct DatasetEnvelope {
    data: DatasetBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatasetBody {
    item_count: u32,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Apify {
    /// Makes a client of the API at `base_url`, without `/v2`. Apify's own is `https://api.apify.com`.
    pub fn new(http: Client, base_url: impl Into<String>, secret: Credential<ApifySecret>) -> Self {
        let base_url: String = base_url.into();
        Self { http, base_url: base_url.trim_end_matches('/').to_owned(), secret }
    }

    /// Fetches the token, so that the first call does not wait for it. A failure is that call's to report.
    pub async fn prepare(&self) {
        let _ = self.secret.current().await;
    }

    /// Starts one Actor run for all of `usernames`. Apify ends it after two minutes and ten seconds for each profile, an hour at most.
    ///
    /// # Errors
    /// Fails with [`VendorError`]. The Actor run may have started nonetheless if [`Self::may_have_started`] says so.
    pub async fn start(&self, usernames: &[Username]) -> Result<ActorRun, VendorError> {
        let timeout = (120 + 10 * usernames.len()).min(3600);
        let url = format!("{}/v2/actors/{ACTOR}/runs?timeout={timeout}", self.base_url);
        let reply = self.send(&self.http.post(url).json(&json!({ "usernames": usernames })), RESPONSE_TIMEOUT, MAX_RUN_BYTES).await?;
        run(&reply)
    }

    /// Whether an Actor run may exist although its start failed with `error`.
    pub fn may_have_started(error: &VendorError) -> bool {
        matches!(error, VendorError::Timeout | VendorError::Transport(BROKEN_OFF) | VendorError::Invalid(_) | VendorError::Overloaded(_))
    }

    /// Returns the Actor run as soon as it has ended or `wait` (at most a minute) is over.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn wait(&self, run_id: &str, wait: Duration) -> Result<ActorRun, VendorError> {
        let wait = wait.min(MAX_WAIT);
        let url = format!("{}/v2/actor-runs/{}?waitForFinish={}", self.base_url, id(run_id)?, wait.as_secs());
        run(&self.send(&self.http.get(url), wait + RESPONSE_TIMEOUT, MAX_RUN_BYTES).await?)
    }

    /// Returns the outcome of each of the handles that were `requested`, in their order. A handle without an item counts as blocked.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn items(&self, run: &ActorRun, requested: &[Username]) -> Result<Vec<ScrapedItem>, VendorError> {
        let url = format!("{}/v2/datasets/{}/items?format=json&clean=1&fields={FIELDS}", self.base_url, id(&run.dataset_id)?);
        let reply = self.send(&self.http.get(url), ITEMS_TIMEOUT, MAX_ITEMS_BYTES).await?;
        outcomes(&reply.body, requested, Timestamp::now())
    }

    /// Returns what an Actor run cost. For one that is paid by item, reads how many items its dataset has.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn cost(&self, run: &ActorRun) -> Result<ActorCost, VendorError> {
        if !matches!(run.cost, ActorCost::PerItem(_)) {
            return Ok(run.cost);
        }
        let url = format!("{}/v2/datasets/{}", self.base_url, id(&run.dataset_id)?);
        let DatasetEnvelope { data } = self.send(&self.http.get(url), RESPONSE_TIMEOUT, MAX_RUN_BYTES).await?.json()?;
        Ok(run.cost.with_items(data.item_count))
    }

    /// Aborts an Actor run, unless it has ended. Returns it with its cost so far.
    ///
    /// # Errors
    /// Fails with [`VendorError`].
    pub async fn abort(&self, run_id: &str) -> Result<ActorRun, VendorError> {
        let url = format!("{}/v2/actor-runs/{}/abort", self.base_url, id(run_id)?);
        run(&self.send(&self.http.post(url), RESPONSE_TIMEOUT, MAX_RUN_BYTES).await?)
    }

    async fn send(&self, request: &RequestBuilder, timeout: Duration, max_bytes: usize) -> Result<Reply, VendorError> {
        let call = |secret: Arc<ApifySecret>| async move {
            let request = request.try_clone().ok_or(VendorError::Transport("a body that cannot be sent again"))?;
            let reply = Reply::to(request.bearer_auth(secret.token.expose_secret()), timeout, max_bytes).await?;
            if reply.status.is_success() { Ok(reply) } else { Err(failure(&reply)) }
        };
        self.secret.with(call).await
    }
}

/// Checks the id of an Actor run or a dataset, which becomes a part of a URL.
fn id(text: &str) -> Result<&str, VendorError> {
    let valid = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if valid { Ok(text) } else { Err(VendorError::Invalid("a malformed id")) }
}

fn run(reply: &Reply) -> Result<ActorRun, VendorError> {
    let Envelope { data } = reply.json()?;
    id(&data.id)?;
    id(&data.default_dataset_id)?;
    let status = ActorRunStatus::parse(&data.status)?;
    Ok(ActorRun {
        status,
        id: data.id,
        dataset_id: data.default_dataset_id,
        cost: data.reported.cost(status.is_terminal(), data.finished_at, Timestamp::now()),
        finished_at: data.finished_at,
    })
}

fn failure(reply: &Reply) -> VendorError {
    let kind = reply.json::<ErrorEnvelope>().ok().and_then(|body| body.error.kind);
    match kind.as_deref() {
        // Apify has no free resources, whatever the status says.
        Some("actor-memory-limit-exceeded" | "concurrent-runs-limit-exceeded" | "rate-limit-exceeded" | "too-many-requests") => {
            VendorError::RateLimited { retry_after: reply.retry_after() }
        }
        Some("monthly-usage-limit-too-low" | "platform-feature-disabled") => VendorError::QuotaExhausted(code(kind.as_deref())),
        // The account may not run the Actor, whatever the token: a fault of the configuration, which a person has to correct at Apify.
        Some(
            kind @ ("actor-is-not-rented" | "full-permission-actor-not-approved" | "public-actor-disabled" | "insufficient-permissions"),
        ) => VendorError::Rejected { status: reply.status.as_u16(), code: code(Some(kind)) },
        Some("user-or-token-not-found" | "token-not-provided" | "invalid-token") => VendorError::Unauthorized,
        _ => reply.error(code(kind.as_deref())),
    }
}

#[cfg(test)]
mod tests {
    use oslira_domain::MicroUsd;
    use serde_json::Value;

    use super::*;
    use crate::stub::{Script, Stub};

    fn client(base_url: impl Into<String>) -> Apify {
        let secret = ApifySecret { token: "apify_secret".into() };
        Apify::new(crate::http_client().unwrap(), base_url, Credential::fixed(secret))
    }

    fn run_body(status: &str) -> Value {
        let finished = "2026-11-22T12:00:00.000Z";
        json!({"data": {
            "id": "Run1", "status": status, "defaultDatasetId": "Set1", "usageTotalUsd": 0.0023, "finishedAt": finished, "stats": {}
        }})
    }

    async fn serving(script: Script) -> (Apify, Stub) {
        let stub = Stub::new(vec![script; 2]).await;
        (client(format!("{}/", stub.url)), stub)
    }

    #[tokio::test]
    async fn an_actor_run_is_started_polled_read_and_aborted() {
        let usernames: Vec<Username> = vec!["nike".parse().unwrap(), "adidas".parse().unwrap()];
        let (apify, stub) = serving(Script::json(201, &run_body("READY"))).await;
        let run = apify.start(&usernames).await.unwrap();
        let expected = ActorRun {
            id: "Run1".to_owned(),
            dataset_id: "Set1".to_owned(),
            status: ActorRunStatus::Running,
            cost: ActorCost::Unsettled(MicroUsd(2300)),
            finished_at: "2026-11-22T12:00:00Z".parse().ok(),
        };
        assert_eq!(run, expected);
        let request = stub.requests().remove(0);
        assert_eq!(request.line, "POST /v2/actors/apify~instagram-profile-scraper/runs?timeout=140 HTTP/1.1");
        assert_eq!(request.body, json!({"usernames": ["nike", "adidas"]}));
        assert!(
            request.headers.contains("authorization: bearer apify_secret") && request.headers.contains("content-type: application/json")
        );

        let (apify, stub) = serving(Script::json(200, &run_body("SUCCEEDED"))).await;
        assert_eq!(apify.wait("Run1", Duration::from_secs(999)).await.unwrap().cost, ActorCost::Known(MicroUsd(2300)));
        assert_eq!(stub.requests()[0].line, "GET /v2/actor-runs/Run1?waitForFinish=60 HTTP/1.1");

        let (apify, stub) =
            serving(Script::json(200, &json!([{"id": "1", "username": "Nike", "fullName": "Nike", "followersCount": 1, "postsCount": 0}])))
                .await;
        let items = apify.items(&run, &usernames).await.unwrap();
        assert!(matches!((&items[0].outcome, &items[1].outcome), (ScrapeOutcome::Found(_), ScrapeOutcome::Blocked)));
        assert!(stub.requests()[0].line.starts_with("GET /v2/datasets/Set1/items?format=json&clean=1&fields=id,inputUrl,"));

        let (apify, stub) = serving(Script::json(200, &run_body("ABORTING"))).await;
        assert_eq!(apify.abort("Run1").await.unwrap().cost, ActorCost::Unsettled(MicroUsd(2300)));
        assert_eq!(stub.requests()[0].line, "POST /v2/actor-runs/Run1/abort HTTP/1.1");
    }

    #[tokio::test]
    async fn an_actor_that_is_paid_by_item_costs_what_its_dataset_has() {
        let (apify, stub) = serving(Script::json(200, &json!({"data": {"id": "Set1", "itemCount": 3}}))).await;
        let run = ActorRun {
            id: "Run1".to_owned(),
            dataset_id: "Set1".to_owned(),
            status: ActorRunStatus::Succeeded,
            cost: ActorCost::PerItem(MicroUsd(2600)),
            finished_at: None,
        };
        assert_eq!(apify.cost(&run).await, Ok(ActorCost::Known(MicroUsd(7800))));
        assert_eq!(stub.requests()[0].line, "GET /v2/datasets/Set1 HTTP/1.1");
        let (apify, stub) = serving(Script::Close).await;
        assert_eq!(apify.cost(&ActorRun { cost: ActorCost::UNKNOWN, ..run.clone() }).await, Ok(ActorCost::UNKNOWN));
        assert!(stub.requests().is_empty() && apify.cost(&run).await.is_err());
    }

    #[tokio::test]
    async fn every_documented_status_is_known() {
        use ActorRunStatus::{Aborted, Failed, Running, Succeeded, TimedOut};
        let statuses = ["READY", "RUNNING", "TIMING-OUT", "ABORTING", "SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"];
        assert_eq!(
            statuses.map(|status| ActorRunStatus::parse(status).unwrap()),
            [Running, Running, Running, Running, Succeeded, Failed, TimedOut, Aborted]
        );
        assert!(!Running.is_terminal() && Aborted.is_terminal());
        let (apify, _stub) = serving(Script::json(200, &run_body("NAPPING"))).await;
        assert!(matches!(apify.wait("Run1", Duration::ZERO).await, Err(VendorError::Invalid(_))));
    }

    #[tokio::test]
    async fn every_failure_has_its_meaning_and_contains_nothing_private() {
        let limited = || VendorError::RateLimited { retry_after: None };
        let cases = [
            (401, "token-not-provided", VendorError::Unauthorized),
            (404, "user-or-token-not-found", VendorError::Unauthorized),
            (402, "not-enough-usage", VendorError::QuotaExhausted("not-enough-usage".to_owned())),
            (403, "monthly-usage-limit-too-low", VendorError::QuotaExhausted("monthly-usage-limit-too-low".to_owned())),
            (403, "actor-is-not-rented", VendorError::Rejected { status: 403, code: "actor-is-not-rented".to_owned() }),
            (403, "insufficient-permissions", VendorError::Rejected { status: 403, code: "insufficient-permissions".to_owned() }),
            (402, "actor-memory-limit-exceeded", limited()),
            (400, "concurrent-runs-limit-exceeded", limited()),
            (429, "rate-limit-exceeded", limited()),
            (500, "internal-error", VendorError::Overloaded(500)),
            (408, "run-timeout-exceeded", VendorError::Overloaded(408)),
            (400, "invalid-input", VendorError::Rejected { status: 400, code: "invalid-input".to_owned() }),
            (404, "Profile of @jane", VendorError::Rejected { status: 404, code: "no code".to_owned() }),
        ];
        for (status, kind, expected) in cases {
            let body = json!({"error": {"type": kind, "message": "token apify_secret of @jane"}});
            let (apify, _stub) = serving(Script::json(status, &body)).await;
            let error = apify.start(&[]).await.unwrap_err();
            assert_eq!(error, expected, "{status} {kind}");
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("jane"));
        }
    }

    #[tokio::test]
    async fn broken_responses_and_connections_are_retryable() {
        let scripts = [
            Script::BreakOff,
            Script::Close,
            Script::Respond(200, "", b"{\"data\":{\"id\":".to_vec()),
            Script::Respond(502, "", b"<html>".to_vec()),
        ];
        for script in scripts {
            let (apify, _stub) = serving(script).await;
            assert!(apify.wait("Run1", Duration::ZERO).await.unwrap_err().is_retryable());
        }
        let unreached = client("http://127.0.0.1:1").start(&[]).await.unwrap_err();
        assert_eq!(unreached, VendorError::Transport("no connection"));
        assert!(!Apify::may_have_started(&unreached));
        for script in [Script::BreakOff, Script::Close, Script::Respond(201, "", b"{\"data\":{\"id\":".to_vec())] {
            let (apify, _stub) = serving(script).await;
            assert!(Apify::may_have_started(&apify.start(&[]).await.unwrap_err()));
        }
    }

    #[tokio::test]
    async fn ids_cannot_lead_to_another_address() {
        let (apify, stub) = serving(Script::Close).await;
        for id in ["", "../users/me", "a?b", &"a".repeat(65)] {
            assert!(apify.wait(id, Duration::ZERO).await.is_err() && apify.abort(id).await.is_err());
        }
        assert!(stub.requests().is_empty());
    }
}
