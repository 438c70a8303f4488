//! Runs, their datasets and their logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::calls::{Admitted, Apify, Parameters, admit};
use super::runs::{ACTOR_ID, Run};
use crate::faults::Fault;
use crate::{profiles, wire};

/// Long polls end after this time, as Apify's do. A client that wants to wait longer polls again.
const LONGEST_POLL: Duration = Duration::from_mins(1);

/// Finds a run and authenticates the call that concerns it.
async fn admit_for_run(
    apify: &Apify,
    op: &'static str,
    id: &str,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(Admitted, Arc<Run>), Response> {
    if let Some(run) = apify.runs.find(id) {
        return Ok((admit(apify, op, headers, query, (&run.input, &run.handles)).await?, run));
    }
    let admitted = admit(apify, op, headers, query, (&Bytes::new(), &[])).await?;
    Err(admitted.reject(404, "record-not-found", "Actor run was not found"))
}

/// Returns the time that the client wants to wait for the end of the run.
pub(super) fn wait_for_finish(query: &HashMap<String, String>) -> Duration {
    let seconds = query.get("waitForFinish").and_then(|text| text.parse::<f64>().ok()).filter(|seconds| *seconds > 0.0);
    Duration::from_secs_f64(seconds.unwrap_or_default().min(LONGEST_POLL.as_secs_f64()))
}

pub(super) async fn poll(
    State(apify): State<Arc<Apify>>,
    Path(id): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    match admit_for_run(&apify, "poll", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            run.wait(wait_for_finish(&query)).await;
            admitted.respond(200, &json!({"data": run.json()}))
        }
        Err(response) => response,
    }
}

pub(super) async fn abort(
    State(apify): State<Arc<Apify>>,
    Path(id): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    match admit_for_run(&apify, "abort", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            run.abort();
            admitted.respond(200, &json!({"data": run.json()}))
        }
        Err(response) => response,
    }
}

pub(super) async fn log(State(apify): State<Arc<Apify>>, Path(id): Path<String>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit_for_run(&apify, "log", &id, &headers, &query).await {
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

pub(super) async fn list(State(apify): State<Arc<Apify>>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit(&apify, "list", &headers, &query, (&Bytes::new(), &[])).await {
        Ok(admitted) => {
            let runs = apify.runs.all();
            let (offset, limit) = (number(&query, "offset").unwrap_or(0), number(&query, "limit").unwrap_or(1_000));
            let page: Vec<Value> = runs.iter().skip(offset).take(limit).map(|run| run.json()).collect();
            admitted.respond(
                200,
                &json!({"data": {"total": runs.len(), "offset": offset, "limit": limit, "desc": true, "count": page.len(),
                "items": page}}),
            )
        }
        Err(response) => response,
    }
}

pub(super) async fn dataset(
    State(apify): State<Arc<Apify>>,
    Path(id): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    match admit_for_run(&apify, "dataset", &id, &headers, &query).await {
        Ok((admitted, run)) => {
            let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            let count = run.items().len();
            admitted.respond(
                200,
                &json!({"data": {"id": run.dataset_id, "name": null, "userId": "sandboxUser000001", "createdAt": now, "modifiedAt": now,
                    "accessedAt": now, "itemCount": count, "cleanItemCount": count, "actId": ACTOR_ID, "actRunId": run.id,
                    "fields": [], "stats": {}, "consoleUrl": "https://console.example"}}),
            )
        }
        Err(response) => response,
    }
}

pub(super) async fn items(
    State(apify): State<Arc<Apify>>,
    Path(id): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    match admit_for_run(&apify, "items", &id, &headers, &query).await {
        Ok((admitted, run)) => send_items(admitted, &run, 200, &query),
        Err(response) => response,
    }
}

fn number(query: &HashMap<String, String>, name: &str) -> Option<usize> {
    query.get(name)?.parse().ok()
}

/// Responds with a dataset as an array, limited to the page and the fields that the query names.
pub(super) fn send_items(admitted: Admitted, run: &Run, status: u16, query: &HashMap<String, String>) -> Response {
    if let Some(format) = query.get("format").filter(|format| *format != "json") {
        return admitted.reject(400, "invalid-value", &format!("The sandbox has datasets as json only, not as {format}"));
    }
    let names = |name: &str| query.get(name).map(|list| list.split(',').map(str::trim).collect::<Vec<_>>());
    let (fields, omit) = (names("fields"), names("omit"));
    let (offset, limit) = (number(query, "offset").unwrap_or(0), number(query, "limit").unwrap_or(usize::MAX));
    let total = run.items().len();
    let cut = |item: &Value| match (item, &fields, &omit) {
        (_, None, None) => item.clone(),
        (Value::Object(item), _, _) => {
            let is_selected = |name: &str| {
                fields.as_ref().is_none_or(|fields| fields.contains(&name)) && !omit.as_ref().is_some_and(|omit| omit.contains(&name))
            };
            Value::Object(
                item.iter().filter(|(name, _)| is_selected(name)).map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
            )
        }
        _ => item.clone(),
    };
    let desc = matches!(query.get("desc").map(String::as_str), Some("1" | "true"));
    let empty = admitted.fault == Some(Fault::EmptyDataset);
    let blocked = admitted.fault == Some(Fault::Blocked);
    let page: Vec<Value> = match () {
        () if empty => Vec::new(),
        () if blocked => run.handles.iter().map(|handle| profiles::blocked(handle)).collect(),
        () if desc => run.items().rev().skip(offset).take(limit).map(cut).collect(),
        () => run.items().skip(offset).take(limit).map(cut).collect(),
    };
    let count = page.len();
    let mut response = admitted.respond(status, &Value::Array(page));
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

pub(super) async fn me(State(apify): State<Arc<Apify>>, Query(query): Parameters, headers: HeaderMap) -> Response {
    match admit(&apify, "user", &headers, &query, (&Bytes::new(), &[])).await {
        Ok(admitted) => {
            admitted.respond(200, &json!({"data": {"id": "sandboxUser000001", "username": "sandbox", "plan": {"id": "STARTER"}}}))
        }
        Err(response) => response,
    }
}
