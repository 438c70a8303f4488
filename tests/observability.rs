//! Observability: the metrics of alarms and graphs, the recipients of alarms, traces, and the reading of logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslira_domain::Tier;

use crate::harness::{Value, World, json, stack_test};

/// The metrics that AWS publishes, by namespace: names and dimensions.
const OF_AWS: [(&str, &[&str], &[&str]); 4] = [
    (
        "AWS/SQS",
        &["ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "ApproximateAgeOfOldestMessage"],
        &["QueueName"],
    ),
    ("AWS/ApiGateway", &["Count", "4xx", "5xx", "Latency", "IntegrationLatency"], &["ApiId"]),
    ("AWS/Lambda", &["Errors", "Throttles", "ConcurrentExecutions"], &[]),
    (
        "AWS/States",
        &["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted", "ExecutionThrottled"],
        &["StateMachineArn"],
    ),
];

/// A metric: namespace, name, and its dimensions with their values where they are texts.
type Metric = (String, String, BTreeMap<String, String>);

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns the dashboard as it is deployed, with the names of resources in place of their values.
fn dashboard(world: &World) -> Value {
    let deployed = resources(world, "AWS::CloudWatch::Dashboard");
    let [(_, properties)] = deployed[..] else { panic!("{deployed:?}") };
    let body = properties["DashboardBody"]["Fn::Sub"].as_str().or(properties["DashboardBody"].as_str()).unwrap();
    body.parse().unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Returns the resources of a type with their logical names.
fn resources<'a>(world: &'a World, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let all = world.stack.processed_template()["Resources"].as_object().unwrap();
    all.iter().filter(|(_, resource)| resource["Type"] == kind).map(|(name, resource)| (name.as_str(), &resource["Properties"])).collect()
}

/// Returns a dimension's value, or `None` for one that only a deployment knows.
fn value(value: &Value) -> String {
    value.as_str().filter(|text| !text.contains("${")).unwrap_or("").replace("local", "")
}

fn alarmed(properties: &Value) -> Metric {
    let text = |name: &str| properties[name].as_str().unwrap().to_owned();
    let dimensions = properties["Dimensions"].as_array().into_iter().flatten();
    let dimensions = dimensions.map(|one| (one["Name"].as_str().unwrap().to_owned(), value(&one["Value"])));
    (text("Namespace"), text("MetricName"), dimensions.collect())
}

/// Returns the metrics of the dashboard's graphs: `[namespace, name, dimension, value, …, options]`.
fn graphed(world: &World) -> Vec<Metric> {
    let dashboard = dashboard(world);
    let metrics = dashboard["widgets"].as_array().unwrap().iter().flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap());
    metrics
        .filter_map(|metric| {
            let parts: Vec<&Value> = metric.as_array().unwrap().iter().filter(|part| part.is_string()).collect();
            if parts.is_empty() {
                return None; // an expression
            }
            let dimensions = parts[2..].chunks(2).map(|pair| (value(pair[0]), value(pair[1]))).collect();
            Some((value(parts[0]), value(parts[1]), dimensions))
        })
        .collect()
}

/// Returns the metrics that the functions have published: names, the names of their dimensions, and the schedules.
async fn published(world: &World) -> BTreeSet<(String, Vec<String>, String)> {
    let lines = world.stack.log_lines(None).await.unwrap();
    let mut published = BTreeSet::new();
    for line in lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
            assert_eq!(directive["Namespace"], "Oslira");
            for dimensions in directive["Dimensions"].as_array().unwrap() {
                let mut names: Vec<String> = dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
                names.sort();
                for metric in directive["Metrics"].as_array().unwrap() {
                    let name = metric["Name"].as_str().unwrap();
                    assert!(line[name].is_number(), "{name} without a number: {line}");
                    published.insert((name.to_owned(), names.clone(), line["schedule"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
    }
    published
}

#[stack_test(alone)]
async fn every_metric_of_an_alarm_or_graph_is_published(world: Arc<World>) {
    // A run, an internal error and the schedules publish every metric once.
    let account = world.account(5).await;
    assert_eq!(account.run(&world.handle("watched"), "light").await.status(), "completed");
    let fault = json!({ "kind": "status", "status": 400 });
    world.fault_rule(json!({ "vendor": "stripe", "op": "sessions", "match": account.id, "times": 1, "fault": fault })).await;
    account.post("/api/credits/purchase", &json!({ "amount": 10 })).await.problem(500, "INTERNAL_ERROR");
    let table = world.set_variable("get_balance", "RATE_LIMITS_TABLE", "oslira-no-such-table").await;
    account.get("/api/credits/balance").await.data(200);
    world.set_variable("get_balance", "RATE_LIMITS_TABLE", &table).await;
    crate::schedules::stuck_run(&account).await;
    for schedule in ["renew-subscriptions", "end-stuck-runs", "clean-up", "report-usage"] {
        world.invoke(schedule, &json!({})).await.unwrap();
    }
    let mut watched: Vec<Metric> = resources(&world, "AWS::CloudWatch::Alarm").into_iter().map(|(_, alarm)| alarmed(alarm)).collect();
    let graphed = graphed(&world);
    // A dashboard with more is charged, even if it is one of the first three.
    assert!(watched.len() > 15 && (40..=50).contains(&graphed.len()), "{} {}", watched.len(), graphed.len());
    watched.extend(graphed);
    let kinds: String = world
        .db
        .value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'credit_ledger_transaction_type_check'", &[])
        .await
        .unwrap();
    let (begun, mut missing) = (Instant::now(), watched.clone());
    while !missing.is_empty() && begun.elapsed() < Duration::from_mins(1) {
        world.collect_reports().await;
        let published = published(&world).await;
        missing.retain(|metric| !is_published(metric, &published, &kinds));
    }
    assert!(missing.is_empty(), "no function publishes {missing:#?}");
}

/// Returns whether a metric is one of AWS, or a published one with these dimensions.
fn is_published((namespace, name, dimensions): &Metric, published: &BTreeSet<(String, Vec<String>, String)>, kinds: &str) -> bool {
    if let Some((_, names, keys)) = OF_AWS.iter().find(|(known, ..)| known == namespace) {
        return names.contains(&name.as_str()) && dimensions.keys().eq(keys.iter());
    }
    let values = dimensions.iter().all(|(name, value)| match name.as_str() {
        "environment" => value.is_empty(),
        "analysis_type" => Tier::ALL.iter().any(|tier| tier.as_str() == value),
        "status" => ["completed", "failed", "cancelled"].contains(&value.as_str()),
        "transaction_type" => kinds.contains(&format!("'{value}'")),
        "schedule" => true,
        _ => false,
    });
    let (names, schedule) = (dimensions.keys().cloned().collect::<Vec<_>>(), dimensions.get("schedule"));
    let has_dimensions =
        |(known, keys, of): &(String, Vec<String>, String)| known == name && *keys == names && schedule.is_none_or(|one| one == of);
    namespace == "Oslira" && values && published.iter().any(has_dimensions)
}

#[stack_test]
async fn every_alarm_notifies_and_every_dead_letter_queue_has_an_alarm(world: Arc<World>) {
    let alarms = resources(&world, "AWS::CloudWatch::Alarm");
    for (name, alarm) in &alarms {
        for actions in ["AlarmActions", "OKActions"] {
            assert_eq!(alarm[actions], json!([{ "Ref": "Alarms" }]), "{name}");
        }
        assert!(alarm["AlarmDescription"].as_str().is_some_and(|text| text.len() > 20), "{name}");
    }
    // Percentiles of few values are the slowest one.
    for (name, alarm) in alarms.iter().filter(|(_, alarm)| alarm["ExtendedStatistic"].is_string()) {
        let expected = if alarm["ExtendedStatistic"] == "p0" { "evaluate" } else { "ignore" };
        assert_eq!(alarm["EvaluateLowSampleCountPercentile"], json!(expected), "{name}");
    }
    // A schedule that does not complete is noticed, whatever the reason.
    let silent = alarms.iter().filter(|(_, alarm)| alarm["TreatMissingData"] == "breaching").map(|(_, alarm)| {
        assert_eq!((&alarm["MetricName"], &alarm["Statistic"]), (&json!("schedule_completed"), &json!("Sum")), "{alarm}");
        alarm["Dimensions"][1]["Value"].as_str().unwrap()
    });
    assert_eq!(silent.collect::<BTreeSet<_>>(), BTreeSet::from(["clean_up", "end_stuck_runs", "renew_subscriptions", "report_usage"]));
    let watched: BTreeSet<&str> = alarms
        .iter()
        .filter(|(_, alarm)| alarm["MetricName"].as_str().unwrap().starts_with("ApproximateNumberOfMessages"))
        .map(|(_, alarm)| alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0].as_str().unwrap())
        .collect();
    let source = file("template.yaml");
    let dead = source.split("deadLetterTargetArn: !GetAtt ").skip(1).chain(source.split("DeadLetterConfig: {Arn: !GetAtt ").skip(1));
    let dead: BTreeSet<&str> = dead.map(|rest| rest.split('.').next().unwrap()).collect();
    assert!(dead.len() >= 4, "{dead:?}");
    assert_eq!(watched, dead);
}

/// Returns the actions and managed policies of a role.
fn role(world: &World, of: &Value) -> String {
    let name = of["Fn::GetAtt"][0].as_str().unwrap_or_else(|| panic!("no role: {of}"));
    world.stack.processed_template()["Resources"][name]["Properties"].to_string()
}

#[stack_test]
async fn every_traced_resource_may_write_traces(world: Arc<World>) {
    let functions = resources(&world, "AWS::Lambda::Function");
    assert!(functions.len() > 30);
    for (name, function) in functions {
        // Each trace costs as much as 25 requests: polls, requests of anyone and the schedule that runs every minute have none of their own.
        let untraced =
            ["GetProgress", "GetBulkProgress", "Health", "Openapi", "GetPricing", "ReportUsage"].map(|name| format!("{name}Function"));
        let mode = if untraced.iter().any(|untraced| untraced == name) { "PassThrough" } else { "Active" };
        assert_eq!(function["TracingConfig"], json!({ "Mode": mode }), "{name}");
        assert!(mode == "PassThrough" || role(&world, &function["Role"]).contains("AWSXrayWriteOnlyAccess"), "{name}");
    }
    for (name, machine) in resources(&world, "AWS::StepFunctions::StateMachine") {
        assert_eq!(machine["TracingConfiguration"], json!({ "Enabled": true }), "{name}");
        let role = role(&world, &machine["RoleArn"]);
        assert!(["AWSXrayWriteOnlyAccess", "xray:PutTraceSegments"].iter().any(|right| role.contains(right)), "{name}: {role}");
    }
}

/// Returns a text, or the text of an `Fn::Sub` with its variables replaced.
fn substituted(value: &Value) -> String {
    let text = &value["Fn::Sub"];
    let variables = text[1].as_object().into_iter().flatten();
    let text = [value, text, &text[0]].into_iter().find_map(Value::as_str).unwrap_or_else(|| panic!("{value}"));
    variables.fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value.as_str().unwrap()))
}

#[stack_test]
async fn every_alarm_is_described_in_the_operations_guide(world: Arc<World>) {
    let operations = file("infra/OPERATIONS.md");
    for (name, alarm) in resources(&world, "AWS::CloudWatch::Alarm") {
        let alarm = substituted(&alarm["AlarmName"]);
        let alarm = alarm.trim_start_matches("oslira-local-").trim_start_matches("oslira-${Environment}-");
        assert!(operations.contains(&format!("`{alarm}`")), "{name}: infra/OPERATIONS.md does not describe `{alarm}`");
    }
}

#[stack_test]
async fn every_line_of_a_log_is_read_once(world: Arc<World>) {
    use aws_sdk_cloudwatchlogs::types::InputLogEvent;
    let (config, function) = (world.stack.sdk_config(), world.handle("chatty"));
    let (client, group) = (aws_sdk_cloudwatchlogs::Client::new(&config), format!("/{function}"));
    client.create_log_group().log_group_name(&group).send().await.unwrap();
    // All lines of an invocation have one time. At the second time two streams have more lines than a page; there are a few before and after.
    let now = jiff::Timestamp::now().as_millisecond();
    let day = jiff::Timestamp::now().strftime("%Y/%m/%d");
    let mut written = Vec::new();
    for (stream, moments) in [
        ("one", [(now, 7), (now + 1, 9_990), (now + 1, 30), (now + 2, 10_000)]),
        ("two", [(now + 1, 5), (now + 2, 1), (now + 2, 6), (now + 3, 3)]),
    ] {
        let stream = &format!("{day}/{function}[$LATEST]{stream}");
        client.create_log_stream().log_group_name(&group).log_stream_name(stream).send().await.unwrap();
        for (moment, count) in moments {
            let lines: Vec<String> = (0..count).map(|line| format!("{stream} {moment} {} {line}", written.len())).collect();
            let event = |line: &String| InputLogEvent::builder().timestamp(moment).message(line).build().unwrap();
            let events = lines.iter().map(event).collect();
            client.put_log_events().log_group_name(&group).log_stream_name(stream).set_log_events(Some(events)).send().await.unwrap();
            written.extend(lines);
        }
    }
    let read = async |since: i64| {
        let read = local::logs::lines_in(&config, &group, Some(&function), since).await.unwrap();
        assert!(read.is_sorted_by_key(|line| line.timestamp));
        let ids: BTreeSet<&String> = read.iter().map(|line| &line.id).collect();
        assert_eq!(ids.len(), read.len(), "each line has an id of its own");
        read.into_iter().map(|line| line.text).collect::<BTreeSet<_>>()
    };
    assert_eq!(read(0).await, written.iter().cloned().collect());
    assert_eq!(read(now + 3).await.len(), 3);
    client.delete_log_group().log_group_name(&group).send().await.unwrap();
}

/// One trace shows a run from its request to its end, and is charged once.
#[stack_test]
async fn an_execution_is_part_of_the_trace_of_its_request(world: Arc<World>) {
    let traced = async || {
        let url = format!("{}/_oslira/requests", world.stack.info().aws_endpoint);
        let counts: Value = world.http.get(url).send().await.unwrap().json().await.unwrap();
        counts["traced AWSStepFunctions StartExecution"].as_u64().unwrap_or_default()
    };
    let before = traced().await;
    let account = world.account(1).await;
    account.start(&world.handle("traced"), "light").await;
    assert!(traced().await > before);
}
