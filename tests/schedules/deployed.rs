//! The schedules as they are deployed.

use std::sync::Arc;

use crate::harness::{Value, World, json, stack_test};

const SCHEDULES: [(&str, &str); 3] =
    [("renew-subscriptions", "cron(0 3 * * ? *)"), ("clean-up", "cron(0 2 * * ? *)"), ("end-stuck-runs", "cron(0 * * * ? *)")];

#[stack_test]
async fn the_clock_invokes_each_schedule_and_reports_failures(world: Arc<World>) {
    // The emulator derives a request's service from this header alone.
    let region = world.stack.sdk_config().region().unwrap().to_string();
    let key = &world.stack.info().aws_key.id;
    let scope = format!("AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/scheduler/aws4_request, SignedHeaders=host, Signature=none");
    // The harness disables the schedules; a deployment enables them.
    assert_eq!(template_default(), "ENABLED");
    let resources = world.stack.processed_template()["Resources"].as_object().unwrap().clone();
    for (name, expression) in SCHEDULES {
        let url = format!("{}/schedules/oslira-local-{name}", world.stack.info().aws_endpoint);
        let schedule: Value = world.http.get(url).header("authorization", &scope).send().await.unwrap().json().await.unwrap();
        assert_eq!(
            (&schedule["ScheduleExpression"], &schedule["ScheduleExpressionTimezone"], &schedule["State"]),
            (&json!(expression), &json!("UTC"), &json!("DISABLED")),
            "{schedule}"
        );
        let target = &schedule["Target"];
        assert!(target["Arn"].as_str().unwrap().ends_with(&format!(":function:oslira-local-{name}")), "{target}");
        assert_eq!(target["Input"], json!(r#"{"dry_run": false}"#));
        assert!(target["RetryPolicy"]["MaximumRetryAttempts"].as_i64().unwrap() >= 10, "{target}");
        assert!(target["DeadLetterConfig"]["Arn"].as_str().unwrap().contains("ScheduleDeadLetters"), "{target}");
        // The role may invoke this function and write to the dead-letter queue, and nothing else.
        let (id, resource) = resources
            .iter()
            .find(|(_, resource)| {
                resource["Type"] == "AWS::Scheduler::Schedule" && resource["Properties"]["ScheduleExpression"] == expression
            })
            .expect("a schedule");
        assert_eq!(resource["Properties"]["ScheduleExpressionTimezone"], "UTC");
        let role = &resources[&format!("{id}Role")]["Properties"];
        let statements: Vec<&Value> = role["Policies"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().unwrap())
            .collect();
        let mut actions: Vec<String> = statements.iter().map(|statement| statement["Action"].to_string()).collect();
        actions.sort();
        assert_eq!(actions, [r#""lambda:InvokeFunction""#, r#""sqs:SendMessage""#], "{role}");
        assert!(statements.iter().all(|statement| statement["Resource"]["Fn::GetAtt"].is_array()), "{role}");
    }
}

fn template_default() -> String {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml")).unwrap();
    let parameter = template.split("\n  ScheduleState:\n").nth(1).expect("the parameter");
    parameter.lines().find_map(|line| line.trim().strip_prefix("Default: ")).expect("its default").to_owned()
}

#[stack_test]
async fn a_misspelled_dry_run_changes_nothing(world: Arc<World>) {
    for (name, _) in SCHEDULES {
        assert!(world.invoke(name, &json!({ "dryRun": true })).await.is_err(), "{name}");
    }
}

#[stack_test(alone)]
async fn every_run_logs_a_summary_and_metrics(world: Arc<World>) {
    for (name, _) in SCHEDULES {
        let binary = name.replace('-', "_");
        let before = logged_lines(&world, &binary).await;
        let summary = super::run(&world, name).await;
        assert_eq!(summary["schedule"], json!(binary));
        assert!(summary["duration_ms"].is_u64() && summary["batches"].is_u64() && summary["more"].is_boolean(), "{summary}");
        // A run has one of each. There may be more, because the emulator's clock also invokes schedules.
        crate::harness::until("the lines of a run", std::time::Duration::from_secs(20), || async {
            let after = logged_lines(&world, &binary).await;
            (after.0 > before.0 && after.0 - before.0 == after.1 - before.1).then_some(())
        })
        .await;
    }
}

/// Returns the number of summary lines and of metric lines of a schedule.
async fn logged_lines(world: &World, binary: &str) -> (usize, usize) {
    let lines = world.stack.log_lines(Some(binary)).await.unwrap();
    let lines: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let summary =
        |line: &&Value| line["message"] == "completed" && line["span"]["schedule"] == binary && line["span"]["counts"].is_string();
    let metrics = |line: &&Value| {
        line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Oslira" && line["schedule"] == binary && line["schedule_completed"].is_u64()
    };
    (lines.iter().filter(summary).count(), lines.iter().filter(metrics).count())
}
