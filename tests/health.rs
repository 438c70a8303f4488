//! `GET /health`

use std::sync::Arc;

use crate::harness::{World, cases, json};

cases!(shared: health_tells_version_flags_and_every_dependency, unknown_routes_are_not_found; alone:);

async fn health_tells_version_flags_and_every_dependency(world: Arc<World>) {
    let data = world.send(world.http.get(world.url("/health"))).await.data(200);
    assert_eq!(
        (&data["status"], &data["environment"], &data["version"]),
        (&json!("healthy"), &json!("local"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(data["features"]["workflows"], json!(true));
    let dependencies = data["dependencies"].as_object().unwrap();
    let mut names: Vec<_> = dependencies.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["anthropic", "apify", "dynamodb", "openai", "postgresql", "s3", "step_functions", "supabase_auth"]);
    for (name, dependency) in dependencies {
        assert_eq!(dependency["reachable"], json!(true), "{name}");
        assert!(dependency["latency_ms"].is_u64(), "{name}");
    }
}

async fn unknown_routes_are_not_found(world: Arc<World>) {
    assert_eq!(world.send(world.http.get(world.url("/api/nothing"))).await.status, 404);
}
