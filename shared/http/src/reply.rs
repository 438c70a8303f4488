//! Answers in the one envelope that every endpoint uses.

use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use lambda_http::Body;
use oslira_aws::limits::{Limit, Standing};
use serde::Serialize;
use serde_json::{Value, json};

use crate::problem::Problem;

/// A successful answer.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    data: Value,
    limit: Option<(Limit, Standing)>,
}

impl Reply {
    fn new<T: Serialize>(status: StatusCode, data: &T) -> Result<Self, Problem> {
        Ok(Self { status, data: serde_json::to_value(data).map_err(Problem::internal)?, limit: None })
    }

    /// 200.
    ///
    /// # Errors
    /// 500 if `data` is no JSON.
    pub fn ok<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, data)
    }

    /// 202: accepted, not done yet.
    ///
    /// # Errors
    /// 500 if `data` is no JSON.
    pub fn accepted<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::ACCEPTED, data)
    }

    /// With `RateLimit` headers that say where the caller stands.
    #[must_use]
    pub fn with_limit(self, limit: Option<(Limit, Standing)>) -> Self {
        Self { limit: limit.or(self.limit), ..self }
    }
}

/// What every answer says about itself.
fn meta(request_id: &str, now: Timestamp) -> Value {
    json!({ "timestamp": format!("{now:.3}"), "requestId": request_id })
}

fn response(status: StatusCode, request_id: &str, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
    response
}

/// The response of a handler's outcome.
pub(crate) fn render(outcome: Result<Reply, Problem>, request_id: &str, now: Timestamp) -> Response<Body> {
    let meta = meta(request_id, now);
    let (mut response, limit) = match outcome {
        Ok(reply) => (response(reply.status, request_id, &json!({ "success": true, "data": reply.data, "meta": meta })), reply.limit),
        Err(problem) => {
            let mut body = json!({ "success": false, "error": problem.message, "code": problem.code, "meta": meta });
            if let Some(details) = problem.details {
                body["details"] = details;
            }
            let mut response = response(problem.status, request_id, &body);
            if let Some(seconds) = problem.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            if problem.status == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            (response, problem.limit)
        }
    };
    if let Some((limit, standing)) = limit {
        let policy = format!("\"{}\";q={};w={}", limit.scope, limit.count, limit.window.as_secs());
        let state = format!("\"{}\";r={};t={}", limit.scope, standing.remaining, standing.reset_after);
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_5xx_never_shows_its_cause() {
        let response = render(Err(Problem::internal("password is hunter2")), "r1", Timestamp::UNIX_EPOCH);
        let Body::Text(body) = response.body() else { panic!("text") };
        assert_eq!(response.status(), 500);
        assert!(!body.contains("hunter2"));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "INTERNAL_ERROR");
        assert_eq!(body["meta"], json!({ "timestamp": "1970-01-01T00:00:00.000Z", "requestId": "r1" }));
    }
}
