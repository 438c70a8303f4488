//! Answers in the one envelope that every endpoint uses.

use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use lambda_http::Body;
use oslira_aws::limits::{Limit, Standing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::Problem;

/// A successful answer.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    data: Value,
    /// What a list tells about itself, beside `data`.
    page: Option<Value>,
    /// The `meta` of the first answer, when this one repeats it.
    meta: Option<Value>,
    limit: Option<(Limit, Standing)>,
}

/// An answer as it is kept under an idempotency key: what is repeated is the whole of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredAnswer {
    status: u16,
    data: Value,
    meta: Value,
}

/// A page of a list and where it stands.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Which page, from 1.
    pub page: i64,
    /// How many rows a page has.
    pub page_size: i64,
    /// How many rows there are on all pages.
    pub total: i64,
    /// The moment that the list is of: asking for the next pages with it keeps them in step while rows are added.
    pub as_of: Timestamp,
}

/// Where a page stands, as a list tells it beside `data`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    /// Which page, from 1.
    page: i64,
    /// How many rows a page has.
    page_size: i64,
    /// How many rows there are on all pages.
    total: i64,
    /// How many pages.
    total_pages: i64,
    /// Whether there is another page.
    has_more: bool,
    /// The moment that the list is of.
    as_of: Timestamp,
}

/// What every answer says about itself.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    /// When it was given.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The id of the request, also in every log line about it.
    request_id: String,
}

impl Reply {
    fn new<T: Serialize>(status: StatusCode, data: &T) -> Result<Self, Problem> {
        Ok(Self { status, data: serde_json::to_value(data).map_err(Problem::internal)?, page: None, meta: None, limit: None })
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

    /// 201.
    ///
    /// # Errors
    /// 500 if `data` is no JSON.
    pub fn created<T: Serialize>(data: &T) -> Result<Self, Problem> {
        Self::new(StatusCode::CREATED, data)
    }

    /// 204: done, and nothing to say.
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, data: Value::Null, page: None, meta: None, limit: None }
    }

    /// 200 with a page of a list.
    ///
    /// # Errors
    /// 500 if the rows are no JSON.
    pub fn page<T: Serialize>(page: &Page<T>) -> Result<Self, Problem> {
        let pages = (page.total + page.page_size - 1) / page.page_size;
        let Page { page: number, page_size, total, as_of, .. } = *page;
        let place = Place { page: number, page_size, total, total_pages: pages, has_more: number < pages, as_of };
        Ok(Self { page: Some(json!(place)), ..Self::new(StatusCode::OK, &page.rows)? })
    }

    /// What to keep of this answer, given at `now` to the request of that id, so that it can be repeated word for word.
    pub fn to_stored(&self, request_id: &str, now: Timestamp) -> String {
        json!(StoredAnswer { status: self.status.as_u16(), data: self.data.clone(), meta: meta(request_id, now) }).to_string()
    }

    /// The kept answer again.
    ///
    /// # Errors
    /// 422 if it is none of ours: users can claim keys in the database themselves, for whatever they like.
    pub fn repeated(stored: &str) -> Result<Self, Problem> {
        let stored: StoredAnswer = serde_json::from_str(stored).map_err(|_| Problem::key_reused())?;
        let status = StatusCode::from_u16(stored.status).ok().filter(StatusCode::is_success).ok_or_else(Problem::key_reused)?;
        Ok(Self { status, data: stored.data, page: None, meta: Some(stored.meta), limit: None })
    }

    /// With `RateLimit` headers that say where the caller stands.
    #[must_use]
    pub fn with_limit(self, limit: Option<(Limit, Standing)>) -> Self {
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

/// The response of a handler's outcome.
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
    fn a_page_says_where_it_stands() {
        let page = Page { rows: vec![1, 2], page: 2, page_size: 2, total: 5, as_of: Timestamp::UNIX_EPOCH };
        let response = render(Reply::page(&page), "r1", Timestamp::UNIX_EPOCH);
        let Body::Text(body) = response.body() else { panic!("text") };
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["meta"].take();
        let about = json!({ "page": 2, "pageSize": 2, "total": 5, "totalPages": 3, "hasMore": true, "asOf": "1970-01-01T00:00:00Z" });
        assert_eq!(body, {
            let mut all = json!({ "success": true, "data": [1, 2], "meta": null });
            all.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
            all
        });
    }

    #[test]
    fn a_repeated_answer_is_the_first_one_word_for_word() {
        let first = Reply::created(&json!({ "id": 1 })).unwrap();
        let stored = first.to_stored("r1", Timestamp::UNIX_EPOCH);
        let again = render(Reply::repeated(&stored), "r2", Timestamp::MAX);
        let first = render(Ok(first), "r1", Timestamp::UNIX_EPOCH);
        assert_eq!((again.status(), again.body()), (first.status(), first.body()));
    }

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
