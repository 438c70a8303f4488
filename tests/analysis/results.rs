//! The result of a run, its vendor calls, and their recorded cost.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use oslira_domain::{Tier, assessment};

use crate::harness::{Account, Value, World, json, stack_test};

/// The fields of every result beside its tier's.
const OWN: [&str; 17] = [
    "profile_warnings",
    "performance",
    "run_id",
    "lead_id",
    "analysis_id",
    "status",
    "username",
    "analysis_type",
    "metrics",
    "model_used",
    "cache_hit",
    "credits_charged",
    "actual_cost_micro_usd",
    "cost",
    "processing_duration_ms",
    "created_at",
    "completed_at",
];

/// Asserts that a value matches its schema, that scores are at most 100 and confidences at most 1, and that no text is empty.
fn assert_fits(at: &str, schema: &Value, value: &Value) {
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value}");
        return;
    }
    match schema["type"].as_str() {
        Some("integer") => assert!(value.as_i64().is_some_and(|score| (0..=100).contains(&score)), "{at}: {value}"),
        Some("number") => assert!(value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{at}: {value}"),
        Some("string") => assert!(value.as_str().is_some_and(|text| !text.trim().is_empty()), "{at}: {value}"),
        Some("array") => {
            let entries = value.as_array().unwrap_or_else(|| panic!("{at}: {value}"));
            // A good lead has nothing that speaks against it.
            assert!(at == "red_flags" || !entries.is_empty(), "{at}");
            for entry in entries {
                assert_fits(at, &schema["items"], entry);
            }
        }
        Some("object") => {
            let properties = schema["properties"].as_object().expect("properties");
            let named = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<BTreeSet<_>>());
            assert_eq!(named(value), named(&schema["properties"]), "{at}");
            properties.iter().for_each(|(name, schema)| assert_fits(name, schema, &value[name]));
        }
        other => panic!("{at}: a schema of {other:?}"),
    }
}

#[stack_test]
async fn every_field_of_every_tier_is_present_and_in_range(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("complete");
    for (tier, count, model) in [(Tier::Light, 8, "gpt-6-luna"), (Tier::Deep, 20, "gpt-6.1-terra"), (Tier::Xray, 29, "gpt-6.1-sol")] {
        let ended = account.run(&handle, tier.as_str()).await;
        let result = account.result(&ended.run_id).await.data(200);
        let schemas: Vec<Value> = tier.calls().iter().map(|call| assessment::schema(*call, tier)).collect();
        let fields: Vec<(&String, &Value)> =
            schemas.iter().flat_map(|schema| schema["properties"].as_object().expect("properties")).collect();
        assert_eq!(fields.len(), count, "{tier}");
        for (name, schema) in &fields {
            assert_fits(name, schema, &result[name.as_str()]);
        }
        let expected: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).chain(OWN).collect();
        assert_eq!(result.as_object().expect("an object").keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        for (name, value) in [
            ("run_id", json!(ended.run_id)),
            ("status", json!("completed")),
            ("username", json!(handle)),
            ("analysis_type", json!(tier)),
            ("model_used", json!(model)),
            ("cache_hit", json!(tier != Tier::Light)),
            ("credits_charged", json!(tier.credits().0)),
        ] {
            assert_eq!(result[name], value, "{tier} {name}");
        }
        assert_numbers(&account, &ended.run_id, &result).await;
    }
}

/// Asserts that metrics, times and the database's columns agree with the result.
async fn assert_numbers(account: &Account, run_id: &str, result: &Value) {
    let metrics = &result["metrics"];
    assert_eq!((&metrics["posts_analyzed"], &metrics["hidden_likes_posts"]), (&json!(12), &json!(0)));
    for name in ["engagement_rate_percent", "avg_likes", "avg_comments", "posts_per_week"] {
        assert!(metrics[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {metrics}");
    }
    let at = |field: &str| result[field].as_str().and_then(|text| text.parse::<Timestamp>().ok()).expect("a time").as_millisecond();
    let duration = result["processing_duration_ms"].as_i64().expect("a duration");
    assert!(duration > 0 && (at("completed_at") - at("created_at") - duration).abs() <= 5, "{result}");
    let sql = "SELECT jsonb_build_object('overall_score', overall_score, 'niche_fit_score', niche_fit_score, 'engagement_score', engagement_score,
        'confidence_level', confidence_level::float8, 'summary_text', summary_text, 'lead_id', lead_id, 'analysis_id', id)::text
        FROM analyses WHERE run_id = $1";
    let row: String = account.world.db.value(sql, &[&run_id]).await.expect("a row");
    let row: Value = row.parse().expect("JSON");
    for (name, value) in row.as_object().expect("an object") {
        assert_eq!(&result[name], value, "{name}");
    }
}

impl Account {
    /// Returns the recorded vendor calls of a run: provider, status and micro-USD, in order.
    async fn recorded_calls(&self, run_id: &str) -> Vec<(String, String, i64)> {
        let sql = "SELECT provider, status, cost_micro_usd FROM ai_usage_logs WHERE run_id = $1 ORDER BY started_at, id";
        self.world.db.rows(sql, &[&run_id]).await.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// Asserts that the run's cost is, by provider, what the vendors billed for `handle`.
    async fn assert_billed(&self, run_id: &str, handle: &str, result: &Value) {
        let recorded_calls = self.recorded_calls(run_id).await;
        let mut total = 0;
        for provider in ["apify", "openai", "anthropic"] {
            let calls = self.world.calls(provider, handle).await;
            let billed: i64 = calls.iter().filter_map(|call| call["bill_micro_usd"].as_i64()).sum();
            let recorded: i64 = recorded_calls.iter().filter(|(by, _, _)| by == provider).map(|(_, _, cost)| cost).sum();
            assert_eq!(
                (recorded, &result["cost"][format!("{provider}_micro_usd")]),
                (billed, &json!(billed)),
                "{provider}: {recorded_calls:?} {calls:?}"
            );
            total += billed;
        }
        assert_eq!((&result["actual_cost_micro_usd"], &result["cost"]["total_micro_usd"]), (&json!(total), &json!(total)));
        let calls = result["cost"]["calls"].as_array().expect("calls");
        assert_eq!(calls.iter().filter_map(|call| call["cost_micro_usd"].as_i64()).sum::<i64>(), total);
        assert_eq!(calls.len(), recorded_calls.len());
    }
}

#[stack_test]
async fn the_calls_of_a_tier_overlap_in_time(world: Arc<World>) {
    let account = world.account(25).await;
    for (tier, count) in [("deep", 3), ("xray", 4)] {
        // On a busy machine a call may start late. Sequential calls never overlap.
        let mut overlaps = false;
        for _ in 0..3 {
            let handle = world.handle("parallel");
            world.slow_model("openai", &handle, 1500).await;
            let ended = account.run(&handle, tier).await;
            let result = account.result(&ended.run_id).await.data(200);
            account.assert_billed(&ended.run_id, &handle, &result).await;
            let calls = world.calls("openai", &handle).await;
            let times = |field: &str| calls.iter().filter_map(|call| call[field].as_i64()).collect::<Vec<_>>();
            let (last_start, first_end) = (times("started_at_ms").into_iter().max(), times("ended_at_ms").into_iter().min());
            let titles: BTreeSet<&str> = calls.iter().filter_map(|call| call["schema"].as_str()).collect();
            assert_eq!(titles.len(), count, "{calls:?}");
            overlaps = calls.len() == count && last_start < first_end;
            if overlaps {
                break;
            }
        }
        assert!(overlaps, "{tier}: there was no moment at which all {count} calls were under way");
    }
}

#[stack_test]
async fn an_overloaded_openai_is_replaced_by_anthropic_and_recorded_there(world: Arc<World>) {
    let account = world.account(25).await;
    let faults = [
        (json!({ "kind": "status", "status": 429 }), "light", "error"),
        (json!({ "kind": "status", "status": 429, "retry_after": 600 }), "light", "error"),
        (json!({ "kind": "status", "status": 500 }), "deep", "error"),
        (json!({ "kind": "status", "status": 503 }), "light", "error"),
        (json!({ "kind": "hang", "seconds": 30 }), "light", "timeout"),
        (json!({ "kind": "disconnect" }), "light", "error"),
    ];
    join_all(faults.into_iter().map(async |(fault, tier, status)| {
        let handle = world.handle("overloaded");
        world.fault("openai", &handle, None, fault.clone()).await;
        let ended = account.run(&handle, tier).await;
        assert_eq!(ended.status(), "completed", "{fault}: {}", ended.progress);
        let result = account.result(&ended.run_id).await.data(200);
        account.assert_billed(&ended.run_id, &handle, &result).await;
        let recorded_calls = account.recorded_calls(&ended.run_id).await;
        let questions = if tier == "deep" { 3 } else { 1 };
        let count = |provider: &str, ended: &str, paid: bool| {
            recorded_calls.iter().filter(|(by, status, cost)| by == provider && status == ended && (*cost > 0) == paid).count()
        };
        let counts =
            (count("apify", "success", true), count("openai", status, false), count("anthropic", "success", true), recorded_calls.len());
        assert_eq!(counts, (1, questions, questions, 1 + 2 * questions), "{fault}: {recorded_calls:?}");
        let model = if tier == "deep" { "claude-sonnet-5-5" } else { "claude-haiku-5-5" };
        assert_eq!(result["model_used"], json!(model), "{fault}");
        assert_eq!(world.calls("anthropic", &handle).await.len(), questions, "{fault}");
    }))
    .await;
    assert_eq!(account.balance().await, 25 - 5 - 3);
}

/// Unknown is not zero: not in the prompt, the metrics or the lead.
#[stack_test]
async fn an_unknown_number_of_followers_is_absent_everywhere(world: Arc<World>) {
    let account = world.account(9).await;
    let handle = world.handle("uncounted");
    let ended = account.run(&handle, "light").await;
    assert_eq!(ended.status(), "completed", "{}", ended.progress);
    let result = account.result(&ended.run_id).await.data(200);
    let metrics = &result["metrics"];
    assert_eq!((&metrics["audience_scale"], &metrics["engagement_rate_percent"]), (&Value::Null, &Value::Null), "{metrics}");
    assert!(metrics["avg_likes"].is_f64(), "{metrics}");
    let sql = "SELECT to_jsonb(l) FROM leads l WHERE account_id = $1::text::uuid AND username = $2";
    let lead: Value = world.db.value(sql, &[&account.id, &handle]).await.expect("a lead");
    assert_eq!((&lead["follower_count"], lead["following_count"].is_i64()), (&Value::Null, true), "{lead}");
    let sent = world.call_body(&world.calls("openai", &handle).await[0]).await;
    let names = |name: &str| sent.contains(&format!(r#"\"{name}\":"#));
    assert_eq!((names("following"), names("posts_in_all"), names("followers")), (true, true, false), "{sent}");
}

#[stack_test]
async fn pinned_doubled_and_retried_items_are_read_as_they_are_meant(world: Arc<World>) {
    let account = world.account(9).await;
    let (pinned, retried) = (world.handle("pinned"), world.handle("retried"));
    let (pinned, retried) = (account.run(&pinned, "light").await, account.run(&retried, "light").await);
    let metrics = account.result(&pinned.run_id).await.data(200)["metrics"].clone();
    assert_eq!(metrics["posts_analyzed"], json!(11), "{metrics}");
    assert!(metrics["posts_per_week"].as_f64().is_some_and(|rate| rate > 1.0), "{metrics}");
    assert_eq!(retried.status(), "completed", "{}", retried.progress);
}

#[stack_test]
async fn odd_profiles_get_a_result_like_any_other(world: Arc<World>) {
    let account = world.account(25).await;
    let null = Value::Null;
    let kinds = [
        ("hostile", json!({ "posts_analyzed": 12 })),
        ("emoji", json!({ "posts_analyzed": 12 })),
        ("rtl", json!({ "posts_analyzed": 12 })),
        ("huge", json!({ "posts_analyzed": 12, "audience_scale": "enterprise" })),
        ("zero", json!({ "engagement_rate_percent": null, "follower_following_ratio": 0.0, "audience_scale": "nano" })),
        ("hiddenlikes", json!({ "hidden_likes_posts": 12, "avg_likes": null, "engagement_rate_percent": null })),
        ("empty", json!({ "posts_analyzed": 0, "avg_likes": null, "posting_frequency": "unknown", "days_since_last_post": null })),
    ];
    join_all(kinds.into_iter().map(async |(kind, expected)| {
        let handle = world.handle(kind);
        let ended = account.run(&handle, "deep").await;
        assert_eq!(ended.status(), "completed", "{kind}: {}", ended.progress);
        let result = account.result(&ended.run_id).await.data(200);
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&result["metrics"][name], value, "{kind} {name}: {}", result["metrics"]);
        }
        assert_ne!(result["outreach_message"], null);
        account.assert_billed(&ended.run_id, &handle, &result).await;
        let sql = "SELECT follower_count FROM leads WHERE account_id = $1::text::uuid AND username = $2";
        let followers: i64 = world.db.value(sql, &[&account.id, &handle]).await.expect("a lead");
        assert!(match kind {
            "huge" => followers >= 640_000_000,
            "zero" => followers == 0,
            _ => followers > 0,
        });
    }))
    .await;
    assert_eq!(account.balance().await, 25 - 7 * 3);
}

/// Servers such as Ollama draw the ids of their responses from a few values.
#[stack_test]
async fn a_response_id_seen_before_loses_no_cost(world: Arc<World>) {
    let account = world.account(9).await;
    for _ in 0..2 {
        let handle = world.handle("sameid");
        world.fault("openai", &handle, None, json!({ "kind": "response_id", "id": "chatcmpl-373" })).await;
        let ended = account.run(&handle, "deep").await;
        let result = account.result(&ended.run_id).await.data(200);
        account.assert_billed(&ended.run_id, &handle, &result).await;
        assert_eq!(result["model_used"], json!("gpt-6.1-terra"));
    }
}

#[stack_test]
async fn a_commentary_and_a_code_fence_cost_no_second_call(world: Arc<World>) {
    let account = world.account(9).await;
    for kind in ["commentary", "fenced"] {
        let handle = world.handle("wordy");
        world.fault("openai", &handle, None, json!({ "kind": kind })).await;
        let ended = account.run(&handle, "light").await;
        assert_eq!((ended.status(), world.calls("openai", &handle).await.len()), ("completed", 1), "{kind}");
    }
}

#[stack_test]
async fn a_profile_that_tries_to_influence_is_marked_for_the_user(world: Arc<World>) {
    let account = world.account(9).await;
    for (kind, expected) in [("hostile", json!(["influence_attempt"])), ("harmless", json!([]))] {
        let ended = account.run(&world.handle(kind), "deep").await;
        let result = account.result(&ended.run_id).await.data(200);
        assert_eq!(result["profile_warnings"], expected, "{kind}");
        assert!(kind == "harmless" || result["recommended_action"] != json!("pursue"), "{result}");
    }
}
