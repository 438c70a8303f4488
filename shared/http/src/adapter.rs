//! The HTTP triggers: from API Gateway to a handler and back, on the invocation layer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Response;
use jiff::Timestamp;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Context, RequestExt, service_fn};
use oslira_lambda::{Failure, Invocation, Panicked, Severity, invocation_span};
use tracing::field::Empty;
use uuid::Uuid;

use crate::guard::{AccessGuard, RateLimit};
use crate::problem::Problem;
use crate::reply::{Reply, render};
use crate::request::{Query, Request};

/// Runs an endpoint for signed-in users until the environment ends.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<F, Fut>(guard: AccessGuard, rate_limit: RateLimit, handler: F) -> Result<(), lambda_http::Error>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    guard.warm_up().await;
    let (guard, handler) = (Arc::new(guard), Arc::new(handler));
    serve(move |request, id| {
        let (guard, handler) = (guard.clone(), handler.clone());
        async move { guard.handle(rate_limit, request, &id, |request| handler(request)).await }
    })
    .await
}

/// Runs an endpoint that requires no token and receives nothing but its query.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn public<F, Fut>(handler: F) -> Result<(), lambda_http::Error>
where
    F: Fn(Query) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    serve(move |request, _| handler(Query(request))).await
}

/// Runs `respond`, which receives a request and its id, and renders its replies in the envelope.
pub(crate) async fn serve<F, Fut>(respond: F) -> Result<(), lambda_http::Error>
where
    F: Fn(lambda_http::Request, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    serve_raw(move |request, id| {
        let reply = respond(request, id.clone());
        async move { reply.await.map(|reply| render(Ok(reply), &id, Timestamp::now())) }
    })
    .await
}

/// Runs `respond`, which receives a request and its id, and renders only its problems.
pub(crate) async fn serve_raw<F, Fut>(respond: F) -> Result<(), lambda_http::Error>
where
    F: Fn(lambda_http::Request, String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<Body>, Problem>> + Send + 'static,
{
    lambda_http::run(service_fn(move |request: lambda_http::Request| {
        let invocation = invocation(&request);
        let endpoint = endpoint(&request);
        let span = invocation_span!(
            "request",
            invocation,
            endpoint,
            method = %request.method(),
            path = request.uri().path(),
            user_id = Empty,
            requested_account_id = Empty,
            account_id = Empty,
            run_id = Empty,
            tier = Empty
        );
        // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
        let response: Pin<Box<dyn Future<Output = Result<Response<Body>, Problem>> + Send>> =
            Box::pin(respond(request, invocation.request_id.clone()));
        async move {
            let outcome = invocation.run(span, &[("endpoint", &endpoint)], response).await;
            let response = outcome.unwrap_or_else(|problem| render(Err(problem), &invocation.request_id, Timestamp::now()));
            Ok::<_, Infallible>(response)
        }
    }))
    .await
}

/// The invocation of a request, under the id that API Gateway gave the request.
fn invocation(request: &lambda_http::Request) -> Invocation {
    let invocation = request.lambda_context_ref().map_or_else(|| Invocation::from(&Context::default()), Invocation::from);
    Invocation { request_id: request_id(request), ..invocation }
}

/// Returns method and path of the route, such as `GET /api/leads/{leadId}`: the field by which requests are aggregated.
fn endpoint(request: &lambda_http::Request) -> String {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.route_key.clone(),
        _ => None,
    }
    .unwrap_or_else(|| request.method().to_string())
}

/// Returns API Gateway's id of the request, or a new one.
pub(crate) fn request_id(request: &lambda_http::Request) -> String {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    }
    .unwrap_or_else(|| format!("req_{}", Uuid::now_v7().simple()))
}

impl From<Panicked> for Problem {
    fn from(panicked: Panicked) -> Self {
        Self::internal(panicked)
    }
}

/// A problem is a defect if it is a 5xx, and the client's own fault otherwise.
impl Failure for Problem {
    fn severity(&self) -> Severity {
        if self.status.is_server_error() { Severity::Defect } else { Severity::Expected }
    }

    fn code(&self) -> &'static str {
        self.code
    }

    fn cause(&self) -> Option<String> {
        self.cause.clone()
    }

    fn place(&self) -> Option<&'static std::panic::Location<'static>> {
        self.place
    }

    fn status(&self) -> Option<u16> {
        Some(self.status.as_u16())
    }
}
