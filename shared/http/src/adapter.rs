//! From API Gateway to a handler and back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Response, header};
use jiff::Timestamp;
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt, service_fn};
use oslira_aws::limits::{Limit, Limits, Standing};
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, SdkConfig, variable};
use oslira_domain::AccountId;
use oslira_telemetry::{caught, count_error};
use tracing::Instrument;
use tracing::field::Empty;
use uuid::Uuid;

use crate::auth::{TokenVerifier, VerifierError};
use crate::errors;
use crate::fault::Fault;
use crate::problem::Problem;
use crate::reply::{Reply, render};
use crate::request::{Caller, Query, Request};

/// How an endpoint is limited.
#[derive(Debug, Clone, Copy)]
pub enum Access {
    /// It changes nothing: counting and answering go on at once.
    Read(Limit),
    /// It changes something: counted first.
    Write(Limit),
    /// It has a limit of its own, which the handler counts.
    Own,
}

/// What every authenticated endpoint needs.
#[derive(Clone)]
pub struct Gateway {
    verifier: TokenVerifier,
    limits: Limits,
    /// Until when whom a limit has refused: a read is answered beside its count, and must not be once it is known to be too many.
    refused: Arc<Mutex<HashMap<Subject, (Instant, Standing)>>>,
}

/// A limit's scope and whom it limits.
type Subject = (&'static str, String);

/// How many refused subjects an environment remembers.
const MAX_REFUSED: usize = 10_000;

impl Gateway {
    /// Reads `SUPABASE_URL` and `RATE_LIMITS_TABLE`.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env(config: &SdkConfig, secrets: &Secrets) -> Result<Self, MissingVariable> {
        let verifier = TokenVerifier::new(&variable("SUPABASE_URL")?, secrets.clone());
        Ok(Self { verifier, limits: Limits::from_env(config)?, refused: Arc::default() })
    }

    /// Counts `weight` requests of `subject`. When the counters are out of reach the request goes on: what costs money is guarded by
    /// the ledger.
    ///
    /// # Errors
    /// 429 above the limit.
    pub async fn count(&self, limit: Limit, subject: &str, weight: u32) -> Result<Option<(Limit, Standing)>, Problem> {
        match self.limits.count(limit, subject, weight, Timestamp::now()).await {
            Ok(standing) if standing.allowed => Ok(Some((limit, standing))),
            Ok(standing) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                if refused.len() >= MAX_REFUSED {
                    refused.clear();
                }
                refused.insert((limit.scope, subject.to_owned()), (Instant::now() + Duration::from_secs(standing.reset_after), standing));
                Err(Problem::rate_limited(standing).with_limit((limit, standing)))
            }
            Err(error) => {
                tracing::warn!(%error, scope = limit.scope, "rate limit not counted");
                Ok(None)
            }
        }
    }

    /// Refuses whom this environment knows to be over the limit.
    fn admit(&self, limit: Limit, subject: &str) -> Result<(), Problem> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (limit.scope, subject.to_owned());
        let Some((until, standing)) = refused.get(&key).copied() else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            refused.remove(&key);
            return Ok(());
        }
        let standing = Standing { reset_after: left.as_secs().max(1), ..standing };
        Err(Problem::rate_limited(standing).with_limit((limit, standing)))
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

    async fn answer<F, Fut>(&self, access: Access, request: lambda_http::Request, request_id: &str, handler: F) -> Answer
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
            // Anybody may claim any; handlers say whose it is once the database has told them.
            span.record("asked_account_id", account_id.to_string());
        }
        let request = Request { caller, request_id: request_id.to_owned(), received_at, inner: request };
        match access {
            Access::Own => handler(request).await,
            Access::Write(limit) => {
                let standing = self.count(limit, &subject, 1).await?;
                handler(request).await.map(|reply| reply.with_limit(standing))
            }
            Access::Read(limit) => {
                self.admit(limit, &subject)?;
                let (standing, outcome) = tokio::join!(self.count(limit, &subject, 1), handler(request));
                let standing = standing?;
                outcome.map(|reply| reply.with_limit(standing))
            }
        }
    }
}

type Answer = Result<Reply, Problem>;

/// Runs an endpoint for signed-in users until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut>(gateway: Gateway, access: Access, handler: F) -> Result<(), lambda_http::Error>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let (gateway, handler) = (Arc::new(gateway), Arc::new(handler));
    serve(move |request, id| {
        let (gateway, handler) = (gateway.clone(), handler.clone());
        async move { gateway.answer(access, request, &id, |request| handler(request)).await }
    })
    .await
}

/// Runs an endpoint that asks for no token and gets nothing but its query.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn public<F, Fut>(handler: F) -> Result<(), lambda_http::Error>
where
    F: Fn(Query) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    serve(move |request, _| handler(Query(request))).await
}

pub(crate) async fn serve<F, Fut>(respond: F) -> Result<(), lambda_http::Error>
where
    F: Fn(lambda_http::Request, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    lambda_http::run(service_fn(move |request: lambda_http::Request| {
        let request_id = request_id(&request);
        let endpoint = endpoint(&request);
        let span = tracing::info_span!(
            "request",
            requestId = request_id,
            endpoint,
            xray_trace_id = request.lambda_context_ref().and_then(|context| context.xray_trace_id.as_deref()),
            user_id = Empty,
            asked_account_id = Empty,
            account_id = Empty,
            run_id = Empty
        );
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // Boxed: the SDKs' futures nest deeper than the compiler likes to look into.
        let response: Pin<Box<dyn Future<Output = Answer> + Send>> = Box::pin(respond(request, request_id.clone()));
        let respond = async move {
            let started = Instant::now();
            let outcome = caught(response).await.unwrap_or_else(|panicked| Err(Problem::internal(panicked)));
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            match &outcome {
                Ok(_) => tracing::info!(%method, path, duration_ms, "answered"),
                Err(problem) if problem.status.is_server_error() => {
                    let status = problem.status.as_u16();
                    tracing::error!(%method, path, duration_ms, status, code = problem.code, cause = problem.cause, "failed");
                    count_error(problem.code, &[("endpoint", &endpoint), ("requestId", &request_id), ("status", &status.to_string())]);
                }
                Err(problem) => {
                    tracing::info!(%method, path, duration_ms, status = problem.status.as_u16(), code = problem.code, "refused");
                }
            }
            render(outcome, &request_id, Timestamp::now())
        };
        async move {
            let response = respond.instrument(span).await;
            oslira_telemetry::report().await;
            Ok::<Response<Body>, Infallible>(response)
        }
    }))
    .await
}

/// Method and path of the route, as in `GET /api/leads/{leadId}`: what requests are summed up by.
fn endpoint(request: &lambda_http::Request) -> String {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.route_key.clone(),
        _ => None,
    }
    .unwrap_or_else(|| request.method().to_string())
}

/// API Gateway's id of the request, or one of our own.
pub(crate) fn request_id(request: &lambda_http::Request) -> String {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    }
    .unwrap_or_else(|| format!("req_{}", Uuid::now_v7().simple()))
}
