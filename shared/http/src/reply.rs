//! Responses in the envelope that every endpoint uses.

use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use lambda_http::Body;
use oslira_aws::limits::{Limit, LimitStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::errors;
use crate::problem::Problem;

/// A successful response.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    data: Value,
    /// The position of a list's page, beside `data`.
    page: Option<Value>,
    /// The `meta` of the first response, if this one is a replay of it.
    meta: Option<Value>,
    limit: Option<(Limit, LimitStatus)>,
}

/// A response as an idempotency key stores it. A replay repeats all of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredReply {
    status: u16,
    data: Value,
    meta: Value,
}

/// A page of a list and its position.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The page's number, from 1.
    pub page: i64,
    /// The number of rows of a page.
    pub page_size: i64,
    /// The number of rows of all pages.
    pub total: i64,
    /// The time at which the list was read. Later pages requested with it do not shift while rows are added.
    pub as_of: Timestamp,
}

/// The position of a page, which a list's response carries beside `data`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PagePosition {
    /// The page's number, from 1.
    page: i64,
    /// The number of rows of a page.
    page_size: i64,
    /// The number of rows of all pages.
    total: i64,
    /// The number of pages.
    total_pages: i64,
    /// Whether there is another page.
    has_more: bool,
    /// The time at which the list was read. Request later pages with it.
    as_of: Timestamp,
}

/// Facts about a response.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    /// When the response was created.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The request's id, which every log line about it carries.
    request_id: String,
}

impl Reply {
    fn new<T: Serialize>(status: StatusCode, data: &T) -> Result<Self, Problem> {
        Ok(Self { status, data: serde_json::to_value(data).map_err(Problem::internal)?, page: None, meta: None, limit: None })
    }

    /// Creates a 200.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if `data` cannot be serialized.
    pub fn ok<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::OK, data)
    }

    /// Creates a 202: the request is accepted and continues in the background.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if `data` cannot be serialized.
    pub fn accepted<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::ACCEPTED, data)
    }

    /// Creates a 201.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if `data` cannot be serialized.
    pub fn created<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::CREATED, data)
    }

    /// Creates a 204.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, data: Value::Null, page: None, meta: None, limit: None }
    }

    /// Creates a 200 with a page of a list.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` if the rows cannot be serialized.
    pub fn page<T: Serialize>(page: &Page<T>) -> Result<Self, Problem> {
        let pages = (page.total + page.page_size - 1) / page.page_size;
        let Page { page: number, page_size, total, as_of, .. } = *page;
        let position = PagePosition { page: number, page_size, total, total_pages: pages, has_more: number < pages, as_of };
        Ok(Self { page: Some(json!(position)), ..Self::new(StatusCode::OK, &page.rows)? })
    }

    /// Returns what an idempotency key stores of this response, created at `now` for the request `request_id`.
    pub fn to_stored(&self, request_id: &str, now: Timestamp) -> String {
        json!(StoredReply { status: self.status.as_u16(), data: self.data.clone(), meta: meta(request_id, now) }).to_string()
    }

    /// Restores a stored response.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` if the API did not store it: clients can claim keys in the database directly, with any content.
    pub fn replay(stored: &str) -> Result<Self, Problem> {
        let reused = || Problem::of(&errors::IDEMPOTENCY_KEY_REUSED);
        let stored: StoredReply = serde_json::from_str(stored).map_err(|_| reused())?;
        let status = StatusCode::from_u16(stored.status).ok().filter(StatusCode::is_success).ok_or_else(reused)?;
        Ok(Self { status, data: stored.data, page: None, meta: Some(stored.meta), limit: None })
    }

    /// Adds the `RateLimit` headers of a limit.
    #[must_use]
    pub fn with_limit(self, limit: Option<(Limit, LimitStatus)>) -> Self {
        Self { limit: limit.or(self.limit), ..self }
    }
}

fn meta(request_id: &str, now: Timestamp) -> Value {
    json!(Meta { timestamp: format!("{now:.3}"), request_id: request_id.to_owned() })
}

fn response(status: StatusCode, request_id: &str, body: &Value) -> Response<Body> {
    let mut response = empty(status, request_id);
    *response.body_mut() = Body::from(body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode, request_id: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
    response
}

/// Renders a handler's outcome as an HTTP response.
pub(crate) fn render(outcome: Result<Reply, Problem>, request_id: &str, now: Timestamp) -> Response<Body> {
    let meta = meta(request_id, now);
    let (mut response, limit) = match outcome {
        Ok(reply) if reply.status == StatusCode::NO_CONTENT => (empty(reply.status, request_id), reply.limit),
        Ok(reply) => {
            let mut body = json!({ "success": true, "data": reply.data });
            if let (Value::Object(body), Some(Value::Object(page))) = (&mut body, reply.page) {
                body.extend(page);
            }
            body["meta"] = reply.meta.unwrap_or(meta);
            (response(reply.status, request_id, &body), reply.limit)
        }
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
    if let Some((limit, limit_status)) = limit {
        let policy = format!("\"{}\";q={};w={}", limit.scope, limit.count, limit.window.as_secs());
        let state = format!("\"{}\";r={};t={}", limit.scope, limit_status.remaining, limit_status.reset_after);
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
    fn a_page_states_its_position() {
        let page = Page { rows: vec![1, 2], page: 2, page_size: 2, total: 5, as_of: Timestamp::UNIX_EPOCH };
        let response = render(Reply::page(&page), "r1", Timestamp::UNIX_EPOCH);
        let Body::Text(body) = response.body() else { panic!("text") };
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["meta"].take();
        let position = json!({ "page": 2, "pageSize": 2, "total": 5, "totalPages": 3, "hasMore": true, "asOf": "1970-01-01T00:00:00Z" });
        assert_eq!(body, {
            let mut all = json!({ "success": true, "data": [1, 2], "meta": null });
            all.as_object_mut().unwrap().extend(position.as_object().unwrap().clone());
            all
        });
    }

    #[test]
    fn a_replay_equals_the_first_response() {
        let first = Reply::created(&json!({ "id": 1 })).unwrap();
        let stored = first.to_stored("r1", Timestamp::UNIX_EPOCH);
        let replay = render(Reply::replay(&stored), "r2", Timestamp::MAX);
        let first = render(Ok(first), "r1", Timestamp::UNIX_EPOCH);
        assert_eq!((replay.status(), replay.body()), (first.status(), first.body()));
    }

    #[test]
    fn a_5xx_does_not_reveal_its_cause() {
        let response = render(Err(Problem::internal("password is hunter2")), "r1", Timestamp::UNIX_EPOCH);
        let Body::Text(body) = response.body() else { panic!("text") };
        assert_eq!(response.status(), 500);
        assert!(!body.contains("hunter2"));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], "INTERNAL_ERROR");
        assert_eq!(body["meta"], json!({ "timestamp": "1970-01-01T00:00:00.000Z", "requestId": "r1" }));
    }
}
