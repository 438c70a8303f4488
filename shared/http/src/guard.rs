//! Who may call an endpoint, and how often.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header;
use jiff::Timestamp;
use oslira_aws::SdkConfig;
use oslira_aws::limits::{Limit, LimitStatus, Limits};
use oslira_aws::secrets::Secrets;
use oslira_db::UserDb;
use oslira_domain::AccountId;
use oslira_telemetry::{Metrics, Unit};

use crate::auth::{TokenVerifier, VerifierError};
use crate::config::EndpointConfig;
use crate::errors;
use crate::fault::Fault;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::request::{Caller, Request};

/// When the requests of an endpoint are counted.
#[derive(Debug, Clone, Copy)]
pub enum RateLimit {
    /// While the handler runs: for an endpoint that changes nothing.
    Concurrent(Limit),
    /// Before the handler runs: for an endpoint that changes something.
    Before(Limit),
    /// By the handler itself, which has a limit of its own.
    InHandler,
}

/// Authenticates callers and counts their requests.
#[derive(Clone)]
pub struct AccessGuard {
    verifier: TokenVerifier,
    limits: Limits,
    /// The database that the handler works on, to which a connection is opened during init.
    db: UserDb,
    /// Who is over a limit, and until when. A request that is counted while its handler runs must not run once it is known to be too many.
    exceeded: Arc<Mutex<HashMap<Subject, (SystemTime, LimitStatus)>>>,
}

/// A limit's scope and whom it limits.
type Subject = (&'static str, String);

/// How many subjects over a limit an environment remembers.
const MAX_EXCEEDED: usize = 10_000;

impl AccessGuard {
    /// Returns a guard with the counters and the token issuer of `config`, for an endpoint that works on `db`.
    pub fn new(config: &EndpointConfig, aws: &SdkConfig, secrets: &Secrets, db: UserDb) -> Self {
        let verifier = TokenVerifier::new(&config.supabase_url, secrets.credential("supabase-auth"));
        Self { verifier, limits: Limits::new(aws, &config.rate_limits_table), db, exceeded: Arc::default() }
    }

    /// Opens what the first request needs, all at once: the database, the connection of the counters, and the keys of tokens.
    pub(crate) async fn warm_up(&self) {
        oslira_lambda::warm_up(async {
            tokio::join!(self.db.warm_up(), self.limits.warm_up(), self.verifier.warm_up());
        })
        .await;
    }

    /// Counts `weight` requests of `subject`. When the counters are not available the request goes on: the ledger guards what costs money.
    ///
    /// # Errors
    /// 429 above the limit.
    pub async fn count(&self, limit: Limit, subject: &str, weight: u32) -> Result<Option<(Limit, LimitStatus)>, Problem> {
        match self.limits.count(limit, subject, weight, Timestamp::now()).await {
            Ok(status) if status.allowed => Ok(Some((limit, status))),
            Ok(status) => {
                let mut exceeded = self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
                if exceeded.len() >= MAX_EXCEEDED {
                    exceeded.clear();
                }
                exceeded.insert((limit.scope, subject.to_owned()), (SystemTime::now() + Duration::from_secs(status.reset_after), status));
                Err(Problem::rate_limited(status).with_limit((limit, status)))
            }
            Err(error) => {
                tracing::warn!(%error, scope = limit.scope, "rate limit not counted");
                Metrics::of("limits").metric("limits_uncounted", Unit::Count, 1).property("scope", limit.scope).emit();
                Ok(None)
            }
        }
    }

    /// Takes requests back that [`count`](Self::count) counted and that turned out to be repeats of one that is counted already. Failures are
    /// logged: they cost the caller a part of a limit until its window ends.
    pub async fn give_back(&self, counted: Option<(Limit, LimitStatus)>, subject: &str, weight: u32) {
        let Some((limit, status)) = counted else { return };
        if let Err(error) = self.limits.give_back(limit, subject, weight, status).await {
            tracing::warn!(%error, scope = limit.scope, "repeat not taken back from its rate limit");
        }
    }

    /// Rejects a subject that this environment knows to be over the limit.
    fn reject_exceeded(&self, limit: Limit, subject: &str) -> Result<(), Problem> {
        let mut exceeded = self.exceeded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (limit.scope, subject.to_owned());
        let Some((until, status)) = exceeded.get(&key).copied() else { return Ok(()) };
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() {
            exceeded.remove(&key);
            return Ok(());
        }
        let status = LimitStatus { reset_after: left.as_secs().max(1), ..status };
        Err(Problem::rate_limited(status).with_limit((limit, status)))
    }

    async fn authenticate(&self, request: &lambda_http::Request) -> Result<Caller, Problem> {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(&errors::UNAUTHORIZED)?;
        let user_id = self.verifier.verify(token).await.map_err(|error| match error {
            VerifierError::Rejected(why) => Problem::of(&errors::INVALID_TOKEN).message(why),
            VerifierError::Unavailable(_) => Problem::unavailable(error),
        })?;
        let account = request.headers().get("x-account-id").map(|value| {
            let id = value.to_str().ok().and_then(|text| text.parse::<AccountId>().ok());
            id.ok_or_else(|| Fault::invalid("X-Account-Id", "expected a UUID"))
        });
        Ok(Caller { user_id, requested_account: account.transpose()? })
    }

    /// Authenticates the caller, counts the request as `rate_limit` says, and runs the handler.
    pub(crate) async fn handle<F, Fut>(
        &self,
        rate_limit: RateLimit,
        request: lambda_http::Request,
        request_id: &str,
        handler: F,
    ) -> Result<Reply, Problem>
    where
        F: FnOnce(Request) -> Fut,
        Fut: Future<Output = Result<Reply, Problem>>,
    {
        let received_at = Timestamp::now();
        let caller = self.authenticate(&request).await?;
        let subject = caller.user_id.to_string();
        let span = tracing::Span::current();
        span.record("user_id", &subject);
        if let Some(account_id) = caller.requested_account {
            // A caller may request any account. Handlers record `account_id` once the database has confirmed it.
            span.record("requested_account_id", account_id.to_string());
        }
        let request = Request { caller, request_id: request_id.to_owned(), received_at, inner: request };
        match rate_limit {
            RateLimit::InHandler => handler(request).await,
            RateLimit::Before(limit) => {
                let status = self.count(limit, &subject, 1).await?;
                handler(request).await.map(|reply| reply.with_limit(status))
            }
            RateLimit::Concurrent(limit) => {
                self.reject_exceeded(limit, &subject)?;
                let (status, outcome) = tokio::join!(self.count(limit, &subject, 1), handler(request));
                let status = status?;
                outcome.map(|reply| reply.with_limit(status))
            }
        }
    }
}
