//! The Apify API, as far as starting, watching, reading and aborting runs of the profile scraper go.

mod runs;
mod starts;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::calls::{OpenCall, Vendor};
use crate::faults::Fault;
use crate::wire;
pub(crate) use runs::{Run, Runs};

type Parameters = Query<HashMap<String, String>>;

/// Long polls are cut to this, as Apify does; clients that ask for more simply ask again.
const LONGEST_POLL: Duration = Duration::from_mins(1);

/// The routes below `/apify`.
pub(crate) fn routes() -> Router<Arc<App>> {
    let actor = || {
        Router::new()
            .route("/{actor}", get(starts::actor))
            .route("/{actor}/runs", post(starts::start).get(list))
            .route("/{actor}/run-sync-get-dataset-items", post(starts::run_sync))
    };
    Router::new()
        .nest("/v2/actors", actor())
        .nest("/v2/acts", actor())
        .route("/v2/actor-runs", get(list))
        .route("/v2/actor-runs/{run}", get(poll))
        .route("/v2/actor-runs/{run}/abort", post(abort))
        .route("/v2/actor-runs/{run}/log", get(log))
        .route("/v2/logs/{run}", get(log))
        .route("/v2/actor-runs/{run}/dataset", get(dataset))
        .route("/v2/actor-runs/{run}/dataset/items", get(items))
        .route("/v2/datasets/{run}", get(dataset))
        .route("/v2/datasets/{run}/items", get(items))
        .route("/v2/users/me", get(me))
        .fallback(unknown)
}

/// An error of the API.
fn error(status: u16, kind: &str, message: &str) -> Response {
    wire::json(status, &json!({"error": {"type": kind, "message": message}}))
}

/// The error type that goes with a status.
fn error_type(status: u16) -> &'static str {
    match status {
        400 => "invalid-input",
        401 => "invalid-token",
        402 => "not-enough-usage-to-run-paid-actor",
        403 => "insufficient-permissions",
        404 => "record-not-found",
        408 => "run-timeout-exceeded",
        413 => "request-too-large",
        415 => "unsupported-content-encoding",
        429 => "rate-limit-exceeded",
        _ => "internal-server-error",
    }
}

/// A call that may go on, with the fault that its handler must apply.
struct Admitted {
    call: OpenCall,
    fault: Option<Fault>,
}

impl Admitted {
    /// Answers, whole or (fault) by half.
    fn answer(self, status: u16, value: &Value) -> Response {
        let outcome = if status < 400 { "ok" } else { "rejected" };
        if self.fault == Some(Fault::TruncatedJson) {
            self.call.close(status, "truncated_json", false);
            return wire::half_json(status, value);
        }
        self.call.close(status, outcome, true);
        wire::json(status, value)
    }

    /// Refuses.
    fn refuse(self, status: u16, kind: &str, message: &str) -> Response {
        self.answer(status, &json!({"error": {"type": kind, "message": message}}))
    }
}

/// Logs a call, checks the token, and applies what every operation has in common of an ordered fault.
///
/// # Errors
/// The answer, where the call ends here.
async fn admit(
    app: &App,
    op: &'static str,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    about: (&Bytes, &[String]),
) -> Result<Admitted, Response> {
    let (input, handles) = about;
    let call = app.calls.begin(Vendor::Apify, op, input.clone());
    call.note(|call| call.handles = handles.to_vec());
    match wire::bearer(headers).or(query.get("token").map(String::as_str)) {
        None => {
            call.close(401, "unauthorized", true);
            return Err(error(401, "token-not-provided", "Authentication token was not provided"));
        }
        Some(token) if !app.accepts(Vendor::Apify, token) => {
            call.close(401, "unauthorized", true);
            return Err(error(401, "user-or-token-not-found", "User was not found or authentication token is not valid"));
        }
        Some(_) => {}
    }
    match app.faults.take(Vendor::Apify, op, input) {
        Some(Fault::Status { status, retry_after, error_type: kind, code }) => {
            call.close(status, &format!("status_{status}"), true);
            let kind = kind.or(code).unwrap_or_else(|| error_type(status).to_owned());
            let mut response = error(status, &kind, "The stand-in was told to answer this.");
            if let Some(seconds) = retry_after {
                wire::set(&mut response, "retry-after", &seconds.to_string());
            }
            Err(response)
        }
        Some(Fault::Disconnect) => {
            call.cut();
            Err(wire::disconnect())
        }
        Some(Fault::Hang { seconds }) => {
            wire::pause(Duration::from_secs_f64(seconds)).await;
            Ok(Admitted { call, fault: None })
        }
        fault => Ok(Admitted { call, fault }),
    }
}

/// Finds the run and admits the call about it.
async fn admit_for_run(
    app: &App,
    op: &'static str,
    id: &str,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(Admitted, Arc<Run>), Response> {
    if let Some(run) = app.runs.find(id) {
        return Ok((admit(app, op, headers, query, (&run.input, &run.handles)).await?, run));
    }
    let admitted = admit(app, op, headers, query, (&Bytes::new(), &[])).await?;
    Err(admitted.refuse(404, "record-not-found", "Actor run was not found"))
}

/// How long the client is willing to wait for the end of the run.
fn wait_for_finish(query: &HashMap<String, String>) -> Duration {
    let seconds = query.get("waitForFinish").and_then(|text| text.parse::<f64>().ok()).filter(|seconds| *seconds > 0.0);
    Duration::from_secs_f64(seconds.unwrap_or_default().min(LONGEST_POLL.as_secs_f64()))
}

async fn poll(State(app): State<Arc<App>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&app, "poll", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            run.wait(wait_for_finish(&query)).await;
            admitted.answer(200, &json!({"data": run.json()}))
        }
        Err(response) => response,
    }
}

async fn abort(State(app): State<Arc<App>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&app, "abort", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            run.abort();
            admitted.answer(200, &json!({"data": run.json()}))
        }
        Err(response) => response,
    }
}

async fn log(State(app): State<Arc<App>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&app, "log", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            let stamp = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            let text = format!("{stamp} ACTOR: Pulling container image of build.\n{stamp} INFO  Scraping {} profiles\n", run.handles.len());
            admitted.call.close(200, "ok", true);
            let mut response = Response::new(axum::body::Body::from(text));
            wire::set(&mut response, "content-type", "text/plain; charset=utf-8");
            response
        }
        Err(response) => response,
    }
}

async fn list(State(app): State<Arc<App>>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit(&app, "list", &headers, &query, (&Bytes::new(), &[])).await {
        Ok(admitted) => {
            let runs = app.runs.all();
            let (offset, limit) = (number(&query, "offset").unwrap_or(0), number(&query, "limit").unwrap_or(1_000));
            let page: Vec<Value> = runs.iter().skip(offset).take(limit).map(|run| run.json()).collect();
            admitted.answer(
                200,
                &json!({"data": {"total": runs.len(), "offset": offset, "limit": limit, "desc": true, "count": page.len(),
                "items": page}}),
            )
        }
        Err(response) => response,
    }
}

async fn dataset(State(app): State<Arc<App>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&app, "dataset", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            let count = run.items().len();
            admitted.answer(
                200,
                &json!({"data": {"id": run.dataset_id, "name": null, "userId": "sandboxUser000001", "createdAt": now, "modifiedAt": now,
                    "accessedAt": now, "itemCount": count, "cleanItemCount": count, "actId": runs::ACTOR_ID, "actRunId": run.id,
                    "fields": [], "stats": {}, "consoleUrl": "https://console.example"}}),
            )
        }
        Err(response) => response,
    }
}

async fn items(State(app): State<Arc<App>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&app, "items", &id, &headers, &query).await {
        Ok((admitted, run)) => send_items(admitted, &run, 200, &query),
        Err(response) => response,
    }
}

fn number(query: &HashMap<String, String>, name: &str) -> Option<usize> {
    query.get(name)?.parse().ok()
}

/// The dataset as a bare array, cut as the query says.
fn send_items(admitted: Admitted, run: &Run, status: u16, query: &HashMap<String, String>) -> Response {
    if let Some(format) = query.get("format").filter(|format| *format != "json") {
        return admitted.refuse(400, "invalid-value", &format!("The stand-in gives datasets as json, not {format}"));
    }
    let names = |name: &str| query.get(name).map(|list| list.split(',').map(str::trim).collect::<Vec<_>>());
    let (fields, omit) = (names("fields"), names("omit"));
    let (offset, limit) = (number(query, "offset").unwrap_or(0), number(query, "limit").unwrap_or(usize::MAX));
    let total = run.items().len();
    let cut = |item: &Value| match (item, &fields, &omit) {
        (_, None, None) => item.clone(),
        (Value::Object(item), _, _) => {
            let wanted = |name: &str| {
                fields.as_ref().is_none_or(|fields| fields.contains(&name)) && !omit.as_ref().is_some_and(|omit| omit.contains(&name))
            };
            Value::Object(
                item.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
            )
        }
        _ => item.clone(),
    };
    let desc = matches!(query.get("desc").map(String::as_str), Some("1" | "true"));
    let empty = admitted.fault == Some(Fault::EmptyDataset);
    let blocked = admitted.fault == Some(Fault::Blocked);
    let page: Vec<Value> = match () {
        () if empty => Vec::new(),
        () if blocked => run.handles.iter().map(|handle| crate::profiles::blocked(handle)).collect(),
        () if desc => run.items().rev().skip(offset).take(limit).map(cut).collect(),
        () => run.items().skip(offset).take(limit).map(cut).collect(),
    };
    let count = page.len();
    let mut response = admitted.answer(status, &Value::Array(page));
    for (name, value) in [
        ("x-apify-pagination-offset", offset),
        ("x-apify-pagination-limit", limit.min(999_999_999_999)),
        ("x-apify-pagination-count", count),
        ("x-apify-pagination-total", total),
    ] {
        wire::set(&mut response, name, &value.to_string());
    }
    wire::set(&mut response, "x-apify-pagination-desc", if desc { "true" } else { "false" });
    response
}

async fn me(State(app): State<Arc<App>>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit(&app, "user", &headers, &query, (&Bytes::new(), &[])).await {
        Ok(admitted) => {
            admitted.answer(200, &json!({"data": {"id": "sandboxUser000001", "username": "sandbox", "plan": {"id": "STARTER"}}}))
        }
        Err(response) => response,
    }
}

async fn unknown() -> Response {
    error(404, "page-not-found", "We have bad news: there is no API endpoint at this URL.")
}
