//! Starting Actor runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::calls::{Admitted, Apify, Parameters, admit, error, error_type};
use super::reads::{send_items, wait_for_finish};
use super::runs::{ACTOR_ID, End, Plan, Run};
use crate::calls::{Metered, Owed};
use crate::faults::Fault;
use crate::profiles::{self, Listing, Person};
use crate::seed::Choices;
use crate::wire;

/// The longest wait for a synchronous run.
const LONGEST_SYNC: Duration = Duration::from_mins(5);

fn is_scraper(actor: &str) -> bool {
    actor == ACTOR_ID || actor.replace('/', "~") == "apify~instagram-profile-scraper"
}

pub(super) async fn actor(
    State(apify): State<Arc<Apify>>,
    Path(actor): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
) -> Response {
    let admitted = match admit(&apify, "actor", &headers, &query, (&Bytes::new(), &[])).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    if !is_scraper(&actor) {
        return admitted.reject(404, "record-not-found", "Actor was not found");
    }
    admitted.respond(
        200,
        &json!({"data": {"id": ACTOR_ID, "userId": "apifyUser00000001", "name": "instagram-profile-scraper", "username": "apify",
            "title": "Instagram Profile Scraper", "isPublic": true, "createdAt": "2022-01-01T00:00:00.000Z",
            "modifiedAt": "2026-11-01T00:00:00.000Z", "stats": {}, "versions": [], "defaultRunOptions": {"build": "latest",
            "timeoutSecs": 3600, "memoryMbytes": 1024}}}),
    )
}

/// Starts a run and responds with 201, at once or after `waitForFinish`.
pub(super) async fn start(
    State(apify): State<Arc<Apify>>,
    Path(actor): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match begin(&apify, &actor, &query, &headers, body).await {
        Ok((admitted, run)) => {
            run.wait(wait_for_finish(&query)).await;
            let location = format!("{}/v2/actor-runs/{}", apify.address, run.id);
            let mut response = admitted.respond(201, &json!({"data": run.json()}));
            wire::set(&mut response, "location", &location);
            response
        }
        Err(response) => response,
    }
}

/// Starts a run, waits for it, and responds with its items.
pub(super) async fn run_sync(
    State(apify): State<Arc<Apify>>,
    Path(actor): Path<String>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (admitted, run) = match begin(&apify, &actor, &query, &headers, body).await {
        Ok(begun) => begun,
        Err(response) => return response,
    };
    run.wait(LONGEST_SYNC).await;
    if !run.is_over() {
        return admitted.reject(408, "run-timeout-exceeded", "Actor run exceeded the timeout of 300 seconds for this API endpoint");
    }
    match run.status() {
        "SUCCEEDED" => send_items(admitted, &run, 201, &query),
        status => admitted.reject(400, "run-failed", &format!("Actor run did not succeed (run ID: {}, status: {status})", run.id)),
    }
}

/// Reads the handles of an input.
fn handles(input: &[u8]) -> Result<Vec<String>, &'static str> {
    let input: Value = serde_json::from_slice(input).map_err(|_| "The request body is not valid JSON")?;
    let Some(list) = input.get("usernames").and_then(Value::as_array) else {
        return Err("Input is not valid: Field input.usernames is required");
    };
    if list.is_empty() {
        return Err("Input is not valid: Field input.usernames must contain at least 1 item");
    }
    let handles: Option<Vec<String>> = list.iter().map(|handle| handle.as_str().map(str::to_owned)).collect();
    handles.ok_or("Input is not valid: Items in input.usernames must be strings")
}

async fn begin(
    apify: &Arc<Apify>,
    actor: &str,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<(Admitted, Arc<Run>), Response> {
    let input = wire::decompressed(headers, body)
        .map_err(|status| error(status.as_u16(), error_type(status.as_u16()), "The request body could not be decompressed"))?;
    let requested = handles(&input);
    let names = requested.as_deref().unwrap_or_default();
    let admitted = admit(apify, "start", headers, query, (&input, names)).await?;
    if !is_scraper(actor) {
        return Err(admitted.reject(404, "record-not-found", "Actor was not found"));
    }
    if !wire::is_json(headers) {
        return Err(admitted.reject(400, "invalid-input", "The input of this Actor is JSON: send Content-Type application/json"));
    }
    let names = match requested {
        Ok(names) => names,
        Err(message) => return Err(admitted.reject(400, "invalid-input", message)),
    };
    apify.shared.remember(&names);
    let limit = query.get("timeout").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let plan = Plan {
        listings: listings(&names, admitted.fault.as_ref()),
        pace: apify.shared.faults.run_pace(&input),
        partial: match admitted.fault {
            Some(Fault::RunFailed { items } | Fault::RunTimedOut { items }) => items,
            _ => 0,
        },
        end: match admitted.fault {
            Some(Fault::RunFailed { .. }) => End::Failed,
            Some(Fault::RunTimedOut { .. }) => End::TimedOut,
            Some(Fault::RunAborted) => End::Aborted,
            _ => End::Succeeded,
        },
        unsettled: match admitted.fault {
            Some(Fault::CostUnsettled { seconds }) => Some(Duration::from_secs_f64(seconds)),
            _ => None,
        },
        limit,
        handles: names,
        input,
    };
    let run = apify.runs.start(plan);
    admitted.call.note(|call| call.owed = Owed::Metered(Arc::clone(&run) as Arc<dyn Metered>));
    Ok((admitted, run))
}

/// Returns the items of a run in an order that differs from its input's.
fn listings(handles: &[String], fault: Option<&Fault>) -> Vec<Listing> {
    let now = Timestamp::now();
    let mut listings: Vec<Vec<Listing>> = match fault {
        Some(Fault::EmptyDataset) => Vec::new(),
        Some(Fault::Blocked) => handles.iter().map(|handle| vec![Listing { item: profiles::blocked(handle), is_error: false }]).collect(),
        _ => handles.iter().map(|handle| profiles::items(&Person::of(handle), now)).collect(),
    };
    Choices::of(&handles.join(" ")).shuffle(&mut listings);
    listings.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_without_handles_is_rejected() {
        for input in ["", "{}", r#"{"usernames":[]}"#, r#"{"usernames":[1]}"#, r#"{"usernames":"nike"}"#] {
            assert!(handles(input.as_bytes()).is_err(), "{input}");
        }
        assert_eq!(handles(br#"{"usernames":["Nike"]}"#), Ok(vec!["Nike".to_owned()]));
    }

    #[test]
    fn many_handles_are_listed_completely_in_another_order() {
        let requested: Vec<String> = (0..20).map(|n| format!("creator_{n}")).collect();
        let mut found: Vec<String> = listings(&requested, None).iter().map(|l| l.item["username"].as_str().unwrap().to_owned()).collect();
        assert_ne!(found, requested);
        found.sort();
        let mut sorted = requested;
        sorted.sort();
        assert_eq!(found, sorted);
    }
}
