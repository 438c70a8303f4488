//! Checks what no linter of templates does: that binaries, functions, routes, states and permissions match.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::harness::{Value, World, stack_test};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The template as it is written, with the full forms of its intrinsic functions.
fn template() -> Value {
    local::parse_template(&std::fs::read_to_string(root().join("template.yaml")).unwrap()).unwrap()
}

fn definition() -> (String, Value) {
    let text = std::fs::read_to_string(root().join("infra/analysis.asl.json")).unwrap();
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

/// Returns the names between `before` and `after` in `text`.
fn between<'a>(text: &'a str, before: &str, after: char) -> BTreeSet<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

#[stack_test]
async fn every_binary_has_a_function_and_every_function_its_binary(world: Arc<World>) {
    let features = std::fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().path().join("src/bin"));
    let binaries: BTreeSet<String> = features
        .filter(|directory| directory.is_dir())
        .flat_map(|directory| std::fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let functions: BTreeSet<String> = template()["Resources"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|resource| resource["Properties"]["CodeUri"].as_str())
        .map(|path| path.strip_prefix("target/lambda/").unwrap().trim_end_matches('/').to_owned())
        .collect();
    assert_eq!(binaries, functions);
    let deployed: BTreeSet<String> = world.stack.functions().keys().cloned().collect();
    assert_eq!(binaries, deployed);
    // Every function that is not a task, a consumer or a schedule has a route.
    let others = [
        "admit",
        "fetch",
        "analyze",
        "save",
        "compensate",
        "stripe_events",
        "renew_subscriptions",
        "clean_up",
        "end_stuck_runs",
        "report_usage",
        "refresh_profile",
        "bulk_groups",
        "fail_bulk_groups",
        "migrate",
    ];
    assert_eq!(world.stack.routes().len(), binaries.len() - others.len(), "{:?}", world.stack.routes());
}

#[stack_test]
async fn the_state_machine_calls_only_functions_that_it_may_call(_: Arc<World>) {
    let (text, _) = definition();
    let called: BTreeSet<String> = between(&text, "${", '}').into_iter().map(ToOwned::to_owned).collect();
    let machine = &template()["Resources"]["AnalysisStateMachine"]["Properties"];
    let substituted: BTreeSet<String> = machine["DefinitionSubstitutions"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, function)| {
            assert_eq!(*name, format!("{}Arn", function["Fn::GetAtt"][0].as_str().unwrap()));
            name.to_owned()
        })
        .collect();
    let allowed: BTreeSet<String> = machine["Policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| format!("{}Arn", policy["LambdaInvokePolicy"]["FunctionName"]["Ref"].as_str().unwrap()))
        .collect();
    assert_eq!(called, substituted);
    assert_eq!(called, allowed);
}

/// Collects every object in `value` that has the field `name`.
fn with_field<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key(name) {
                found.push(value);
            }
            fields.values().for_each(|field| with_field(field, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| with_field(item, name, found)),
        _ => {}
    }
}

#[stack_test]
async fn every_retry_and_catch_has_known_fields(_: Arc<World>) {
    let (_, definition) = definition();
    let mut rules = Vec::new();
    with_field(&definition, "ErrorEquals", &mut rules);
    let known = ["ErrorEquals", "IntervalSeconds", "BackoffRate", "MaxAttempts", "MaxDelaySeconds", "JitterStrategy", "ResultPath", "Next"];
    for rule in &rules {
        let unknown: Vec<_> = rule.as_object().unwrap().keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        // States.ALL must be the only name.
        let errors = rule["ErrorEquals"].as_array().unwrap();
        assert!(errors.len() == 1 || !errors.iter().any(|error| error == "States.ALL"), "{rule}");
    }
    let mut tasks = Vec::new();
    with_field(&definition, "Resource", &mut tasks);
    assert_eq!(tasks.len(), 5);
    for task in tasks {
        let last = task["Retry"].as_array().unwrap().last().unwrap();
        assert_eq!(last["ErrorEquals"], crate::harness::json!(["States.ALL"]), "{}", task["Comment"]);
        assert!(task["TimeoutSeconds"].is_u64(), "{}", task["Comment"]);
    }
    let states = definition["States"].as_object().unwrap();
    for (name, state) in
        states.iter().filter(|(name, state)| ["Task", "Map"].contains(&state["Type"].as_str().unwrap()) && *name != "Compensate")
    {
        assert_eq!(state["Catch"][0]["Next"], "Compensate", "{name}");
    }
}
