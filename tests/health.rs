//! `GET /health`.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{World, json, stack_test, until};

#[stack_test]
async fn health_reports_version_flags_and_every_dependency(world: Arc<World>) {
    let data = world.send(world.http.get(world.url("/health"))).await.data(200);
    assert_eq!(
        (&data["status"], &data["environment"], &data["version"]),
        (&json!("healthy"), &json!("local"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(data["features"]["workflows"], json!(true));
    assert_eq!(data["features"]["schedules"], json!(false), "the parameter ScheduleState of this stack is DISABLED");
    let dependencies = data["dependencies"].as_object().unwrap();
    let mut names: Vec<_> = dependencies.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "anthropic",
            "apify",
            "dynamodb",
            "openai",
            "postgresql",
            "s3",
            "secrets_manager",
            "sqs_bulk_groups",
            "sqs_stripe_events",
            "step_functions",
            "supabase_auth"
        ]
    );
    for (name, dependency) in dependencies {
        assert_eq!(dependency["reachable"], json!(true), "{name}");
        assert!(dependency["latency_ms"].is_u64(), "{name}");
    }
}

#[stack_test]
async fn unknown_routes_are_not_found(world: Arc<World>) {
    assert_eq!(world.send_without_route(world.http.get(world.url("/api/nothing"))).await.status, 404);
}

#[stack_test(alone)]
async fn health_checks_dependencies_once_in_five_seconds(world: Arc<World>) {
    let health = || async { world.send(world.http.get(world.url("/health"))).await.data(200) };
    let checks = || async { world.calls("supabase", "").await.len() };
    let before = checks().await;
    let first = health().await;
    // Each environment may check once. One environment processes one request after another.
    for _ in 0..20 {
        let answer = health().await;
        assert_eq!(answer["status"], first["status"]);
    }
    let seen = checks().await - before;
    assert!((0..=2).contains(&seen), "{seen} checks");
    until("another check", Duration::from_secs(30), || async {
        health().await;
        (checks().await > before + seen).then_some(())
    })
    .await;
}

/// Requests to these addresses carry tokens, keys and profiles.
#[stack_test]
async fn addresses_of_vendors_are_https(_: Arc<World>) {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
    let parameters = template.split("\nParameters:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let lines: Vec<&str> = parameters.lines().collect();
    let mut names = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_name(line)) {
        let name = line.trim().trim_end_matches(':');
        if name.ends_with("BaseUrl") || name == "SupabaseUrl" {
            names += 1;
            let entry = lines[at + 1..].iter().take_while(|line| !is_name(line)).copied().collect::<Vec<_>>().join("\n");
            assert!(entry.contains(r#"AllowedPattern: "https://[^ ]+|http://127\\.0\\.0\\.1(:[0-9]+)?(/[^ ]*)?""#), "{name}: {entry}");
        }
    }
    assert!(names >= 5, "{names}");
}
