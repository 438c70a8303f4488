//! Whole responses of the API as snapshots in `snapshots/`, so that a change of any field is a change of a reviewed file.
//!
//! Ids, times and durations are redacted. Profiles and answers of models are invented from the handle alone, so a fixed handle has a fixed
//! result. To accept a change: `INSTA_UPDATE=always cargo test --workspace --test oslira -- responses::`, then review the files. With
//! `CI` set a snapshot that differs or is missing fails the test and is not written.

use std::sync::Arc;

use crate::harness::{Account, Value, World, json, stack_test};

/// Fields with ids.
const IDS: [&str; 9] =
    ["requestId", "run_id", "lead_id", "analysis_id", "id", "account_id", "business_profile_id", "businessProfileId", "created_by"];
/// Fields with times.
const TIMES: [&str; 9] = [
    "timestamp",
    "asOf",
    "created_at",
    "started_at",
    "updated_at",
    "completed_at",
    "last_analyzed_at",
    "first_analyzed_at",
    "days_since_last_post",
];
/// Fields with addresses that contain an id.
const URLS: [&str; 3] = ["progress_url", "result_url", "cancel_url"];
/// Fields that vary: durations, and values that depend on the dates of posts or on prompts that other runs have cached.
const AMOUNTS: [&str; 16] = [
    "step",
    "posts_per_week",
    "posting_frequency",
    "duration_ms",
    "processing_duration_ms",
    "total_duration_ms",
    "scraping_duration_ms",
    "ai_duration_ms",
    "db_duration_ms",
    "percentage",
    "input_tokens",
    "cached_input_tokens",
    "cost_micro_usd",
    "total_micro_usd",
    "openai_micro_usd",
    "actual_cost_micro_usd",
];

/// Replaces the values that vary. An absent value stays visible.
fn redacted(name: &str, value: &Value) -> Value {
    let kinds = [(&IDS[..], "[id]"), (&TIMES, "[time]"), (&AMOUNTS, "[amount]"), (&URLS, "[url]")];
    let kind = kinds.iter().find(|(names, _)| names.contains(&name)).map(|(_, kind)| *kind);
    match (value, kind) {
        (Value::Null, _) => Value::Null,
        (_, Some(kind)) => json!(kind),
        (Value::Object(fields), None) => fields.iter().map(|(name, value)| (name.clone(), redacted(name, value))).collect(),
        (Value::Array(values), None) => {
            let mut values: Vec<Value> = values.iter().map(|value| redacted("", value)).collect();
            if name == "calls" {
                // Calls to models are concurrent.
                values.sort_by_key(ToString::to_string);
            }
            Value::Array(values)
        }
        _ => value.clone(),
    }
}

/// Asserts that a response equals its snapshot.
fn assert_response(name: &str, body: &Value) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!(name, redacted("", body)));
}

/// Sends a GET request and asserts its status and body.
async fn assert_get(account: &Account, name: &str, path: &str, status: u16) {
    let response = account.get(path).await;
    assert_eq!(response.status, status, "{path}: {}", response.body);
    assert_response(name, &response.body);
}

#[stack_test]
async fn a_run_from_its_start_to_its_ledger_entries(world: Arc<World>) {
    for (tier, credits) in [("light", 1), ("deep", 3), ("xray", 5)] {
        let account = world.account(credits).await;
        let started = account.analyze(&format!("snapshot_{tier}"), tier).await;
        assert_eq!(started.status, 202, "{}", started.body);
        let run_id = started.body["data"]["run_id"].as_str().unwrap();
        account.ended(run_id).await;
        assert_get(&account, &format!("result_{tier}"), &format!("/api/analysis/{run_id}/result"), 200).await;
        if tier == "light" {
            assert_response("started", &started.body);
            assert_get(&account, "progress", &format!("/api/analysis/{run_id}/progress"), 200).await;
            assert_get(&account, "transactions", "/api/credits/transactions", 200).await;
            assert_get(&account, "leads", "/api/leads", 200).await;
        }
    }
}

#[stack_test]
async fn errors(world: Arc<World>) {
    let account = world.account(0).await;
    let invalid = json!({ "username": "no handle", "businessProfileId": "none", "analysisType": "deeper", "extra": true });
    let invalid = account.post("/api/leads/analyze", &invalid).await;
    assert_eq!(invalid.status, 400);
    assert_response("error_validation", &invalid.body);
    let unpaid = account.analyze("snapshot_unpaid", "xray").await;
    assert_eq!(unpaid.status, 402);
    assert_response("error_credits", &unpaid.body);
    assert_get(&account, "error_not_found", "/api/analysis/run_00000000000000000000000000000000/result", 404).await;
    let unauthenticated = world.send(world.http.get(world.url("/api/leads"))).await;
    assert_eq!(unauthenticated.status, 401);
    assert_response("error_unauthenticated", &unauthenticated.body);
}
