//! Checks the template after SAM's transformation for mistakes that AWS reports, or shows, only after a deployment.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::harness::{Value, World, json, stack_test};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn source() -> String {
    std::fs::read_to_string(root().join("template.yaml")).unwrap()
}

/// Returns the logical names and properties of the resources of a type.
fn resources<'a>(world: &'a World, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let all = world.stack.processed_template()["Resources"].as_object().unwrap();
    let found: Vec<_> = all
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
        .collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn resource<'a>(world: &'a World, name: &str) -> &'a Value {
    &world.stack.processed_template()["Resources"][name]
}

/// Returns the logical name in `{"Ref": name}` or `{"Fn::GetAtt": [name, …]}`.
fn target(value: &Value) -> &str {
    value["Ref"].as_str().or_else(|| value["Fn::GetAtt"][0].as_str()).unwrap_or_else(|| panic!("refers to nothing: {value}"))
}

/// Returns the statements of a function's role and of the template's managed policies that are attached to it.
fn statements<'a>(world: &'a World, function: &Value) -> Vec<&'a Value> {
    let role = &resource(world, target(&function["Role"]))["Properties"];
    let own = role["Policies"].as_array().into_iter().flatten().map(|policy| &policy["PolicyDocument"]);
    let managed = role["ManagedPolicyArns"].as_array().into_iter().flatten().filter(|arn| arn.get("Ref").is_some());
    let managed = managed.map(|arn| &resource(world, target(arn))["Properties"]["PolicyDocument"]);
    own.chain(managed).flat_map(|document| document["Statement"].as_array().unwrap()).collect()
}

/// Returns a value as a list. Policies may omit the list of a single value.
fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

#[stack_test]
async fn every_function_waits_for_the_last_migration(world: Arc<World>) {
    let files = crate::harness::migration_files();
    let last = files.last().unwrap().file_stem().unwrap().to_str().unwrap();
    assert_eq!(resource(&world, "Schema")["Properties"]["Version"], json!(last), "template.yaml: the resource Schema");
    for (name, _) in resources(&world, "AWS::Lambda::Function") {
        let waits = list(&resource(&world, name)["DependsOn"]).contains(&&json!("Schema"));
        assert_eq!(waits, name != "MigrateFunction", "{name}");
    }
}

#[stack_test]
async fn every_function_logs_to_a_group_with_a_retention(world: Arc<World>) {
    let groups: BTreeSet<&str> = resources(&world, "AWS::Logs::LogGroup")
        .into_iter()
        .filter(|(_, group)| group["RetentionInDays"].to_string().contains("LogRetentionDays") || group["RetentionInDays"].is_number())
        .map(|(name, _)| name)
        .collect();
    for (name, function) in resources(&world, "AWS::Lambda::Function") {
        let group = target(&function["LoggingConfig"]["LogGroup"]);
        assert!(groups.contains(group), "{name} logs to {group}, which has no retention");
    }
}

/// Starts a function's binary with only these variables. Returns the variable that it reports as missing.
fn missing(binary: &Path, variables: &[(&str, String)]) -> Option<String> {
    let mut command = Command::new(binary);
    command.env_clear().envs(variables.iter().map(|(name, value)| (name, value))).env("AWS_REGION", "eu-west-1");
    // Nothing listens on this port: a function with all its variables ends when it polls for its first event.
    command.env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1").env("AWS_LAMBDA_FUNCTION_NAME", "f").env("AWS_LAMBDA_FUNCTION_VERSION", "1");
    command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256").env("AWS_LAMBDA_LOG_GROUP_NAME", "g").env("AWS_LAMBDA_LOG_STREAM_NAME", "s");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{}: {text}", binary.display());
    let at = text.find(" is not set")?;
    Some(text[..at].rsplit(' ').next()?.to_owned())
}

#[stack_test]
async fn every_function_reads_the_variables_that_it_is_given_and_no_others(world: Arc<World>) {
    for (binary, name) in world.stack.functions().clone() {
        let configuration = world.lambda.get_function_configuration().function_name(name).send().await.unwrap();
        let given = configuration.environment.unwrap().variables.unwrap();
        let path = world.stack.state_dir().join("bin").join(&binary);
        let unread = tokio::task::spawn_blocking(move || {
            let all: Vec<(&str, String)> = given.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            assert_eq!(missing(&path, &all), None, "{}", path.display());
            let needless = |name: &str| {
                let others: Vec<_> = all.iter().filter(|(other, _)| *other != name).cloned().collect();
                missing(&path, &others).as_deref() != Some(name)
            };
            all.iter().map(|(name, _)| *name).filter(|name| needless(name)).map(ToOwned::to_owned).collect::<BTreeSet<String>>()
        });
        let unread = unread.await.unwrap();
        // The log level has a default.
        let mut needless = vec!["LOG_LEVEL"];
        if binary == "analyze" {
            needless.push("MODEL_CATALOGUE"); // there is one compiled in
        }
        let needless = needless.into_iter().map(ToOwned::to_owned).collect();
        assert!(unread.is_subset(&needless), "{binary} does not read {unread:?}");
    }
}

#[stack_test]
async fn every_event_source_is_readable_and_gives_its_function_time(world: Arc<World>) {
    for (name, source) in resources(&world, "AWS::Lambda::EventSourceMapping") {
        let function = &resource(&world, target(&source["FunctionName"]))["Properties"];
        let role = &resource(&world, target(&function["Role"]))["Properties"];
        let managed = role["ManagedPolicyArns"].to_string();
        assert!(managed.contains("AWSLambdaSQSQueueExecutionRole"), "{name}: {managed}");
        let queue = &resource(&world, target(&source["EventSourceArn"]))["Properties"];
        let (visibility_timeout, timeout) = (queue["VisibilityTimeout"].as_u64().unwrap_or(30), function["Timeout"].as_u64().unwrap());
        assert!(visibility_timeout >= 6 * timeout, "{name}: {visibility_timeout} s for a function with {timeout} s");
        let window = source["MaximumBatchingWindowInSeconds"].as_u64().unwrap_or(0);
        assert!(source["BatchSize"].as_u64().unwrap() <= 10 || window > 0, "{name}: more than ten messages need a window");
        assert_eq!(source["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{name}");
    }
}

/// Returns what is wrong with a schedule's expression.
fn fault(expression: &str) -> Option<String> {
    let inner = |kind: &str| expression.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(rate) = inner("rate") {
        let (value, unit) = rate.split_once(' ')?;
        let plural = value.parse::<u32>().ok()? != 1;
        let known = ["minute", "hour", "day"].iter().any(|name| if plural { unit == format!("{name}s") } else { unit == *name });
        return (!known || value == "0").then(|| "no rate".to_owned());
    }
    let Some(cron) = inner("cron") else { return Some("neither rate nor cron".to_owned()) };
    let fields: Vec<&str> = cron.split(' ').collect();
    let [minutes, hours, day, month, weekday, year] = fields[..] else { return Some("not six fields".to_owned()) };
    if (day == "?") == (weekday == "?") {
        return Some("one of the two days must be ?".to_owned());
    }
    let limits = [(minutes, 0, 59), (hours, 0, 23), (day, 1, 31), (month, 1, 12), (weekday, 1, 7), (year, 1970, 2199)];
    let within = |part: &str, low: u32, high: u32| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let number = |text: &str| text.parse::<u32>().is_ok_and(|number| (low..=high).contains(&number));
        let range = range == "*" || range.split_once('-').map_or_else(|| number(range), |(from, to)| number(from) && number(to));
        range && step.parse::<u32>().is_ok_and(|step| step > 0)
    };
    let wrong = limits.iter().find(|(field, low, high)| *field != "?" && !field.split(',').all(|part| within(part, *low, *high)));
    wrong.map(|(field, ..)| format!("{field} is out of its limits"))
}

#[stack_test]
async fn every_schedule_expression_is_valid(world: Arc<World>) {
    for wrong in
        ["cron(0 3 1 * * *)", "cron(0 3 1 * ?)", "cron(60 * * * ? *)", "rate(1 hours)", "rate(5 minute)", "0 3 * * *", "cron(0 3 ? * 0 *)"]
    {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
    for right in ["cron(*/5 8-18 ? * 2-6 *)", "rate(5 minutes)", "rate(1 hour)", "cron(0,30 0/2 1 1,7 ? 2030)"] {
        assert_eq!(fault(right), None, "{right}");
    }
    for (name, schedule) in resources(&world, "AWS::Scheduler::Schedule") {
        assert_eq!(fault(schedule["ScheduleExpression"].as_str().unwrap()), None, "{name}");
        let function = target(&schedule["Target"]["Arn"]);
        let role = &resource(&world, target(&schedule["Target"]["RoleArn"]))["Properties"];
        assert!(role.to_string().contains(&format!("\"{function}\"")), "{name} may not invoke {function}: {role}");
    }
}

#[stack_test]
async fn every_invoker_of_a_function_may_invoke_it(world: Arc<World>) {
    let permitted: BTreeSet<&str> = resources(&world, "AWS::Lambda::Permission")
        .into_iter()
        .filter(|(_, permission)| permission["Principal"] == "apigateway.amazonaws.com")
        .map(|(_, permission)| target(&permission["FunctionName"]))
        .collect();
    let (_, api) = resources(&world, "AWS::ApiGatewayV2::Api")[0];
    let integrations = api["Body"].to_string();
    let functions = resources(&world, "AWS::Lambda::Function");
    let routed: BTreeSet<&str> =
        functions.iter().map(|(name, _)| *name).filter(|name| integrations.contains(&format!("${{{name}.Arn}}"))).collect();
    assert_eq!(routed.len(), world.stack.routes().len());
    assert_eq!(routed, permitted);
    // The queue of a rule accepts events from the rule.
    for (name, rule) in resources(&world, "AWS::Events::Rule") {
        for goal in rule["Targets"].as_array().unwrap() {
            let queues = [Some(&goal["Arn"]), goal.pointer("/DeadLetterConfig/Arn")].into_iter().flatten().map(target);
            for queue in queues {
                assert_eq!(resource(&world, queue)["Type"], "AWS::SQS::Queue", "{name}: {queue}");
                let may = resources(&world, "AWS::SQS::QueuePolicy").iter().any(|(_, policy)| {
                    let statement = &policy["PolicyDocument"]["Statement"][0];
                    policy["Queues"].to_string().contains(&format!("\"{queue}\""))
                        && list(&statement["Resource"]).into_iter().any(|arn| target(arn) == queue)
                        && statement["Principal"]["Service"] == "events.amazonaws.com"
                        && target(&statement["Condition"]["ArnEquals"]["aws:SourceArn"]) == name
                });
                assert!(may, "{name} may not send to {queue}");
            }
        }
    }
    // A function with the name of a function, a queue or the state machine in a variable may use it.
    for (name, function) in functions {
        let allowed = json!(statements(&world, function)).to_string();
        for (variable, value) in function["Environment"]["Variables"].as_object().unwrap() {
            let Some(used) = value["Ref"].as_str().filter(|name| resource(&world, name).is_object()) else { continue };
            assert!(
                allowed.contains(&format!("\"{used}\"")) || allowed.contains(&format!("${{{used}.")),
                "{name} may do nothing with {variable}"
            );
        }
    }
}

#[stack_test]
async fn a_state_times_out_later_than_its_function(world: Arc<World>) {
    let definition: Value = std::fs::read_to_string(root().join("infra/analysis.asl.json")).unwrap().parse().unwrap();
    let tasks: Vec<&Value> = definition["States"].as_object().unwrap().values().filter(|state| state["Type"] == "Task").collect();
    assert_eq!(tasks.len(), 5);
    for task in tasks {
        let function = task["Resource"].as_str().unwrap().trim_start_matches("${").trim_end_matches("Arn}");
        let timeout = resource(&world, function)["Properties"]["Timeout"].as_u64().unwrap();
        assert!(task["TimeoutSeconds"].as_u64().unwrap() > timeout, "{function} has a timeout of {timeout} s");
    }
}

#[stack_test]
async fn the_template_names_the_documented_secrets(_: Arc<World>) {
    let source = source();
    let named: BTreeSet<&str> =
        source.split(":secret:oslira/${Environment}/").skip(1).map(|rest| rest.split_once("-??????").unwrap().0).collect();
    let guide = std::fs::read_to_string(root().join("infra/DEPLOY.md")).unwrap();
    let table = guide.split("| secret | content | read by |").nth(1).unwrap().split("\n\n").next().unwrap();
    let documented: BTreeSet<&str> =
        table.lines().skip(2).flat_map(|row| row.split('|').nth(1).unwrap().split(',')).map(|name| name.trim().trim_matches('`')).collect();
    assert_eq!(named, documented);
}

#[stack_test]
async fn clients_that_poll_and_stripe_have_limits_of_their_own(world: Arc<World>) {
    let (_, stage) = resources(&world, "AWS::ApiGatewayV2::Stage")[0];
    let own = stage["RouteSettings"].as_object().unwrap();
    let routes: BTreeSet<String> = world.stack.routes().iter().map(ToString::to_string).collect();
    for route in own.keys() {
        assert!(routes.iter().any(|known| known.contains(route.split_once(' ').unwrap().1)), "{route} is no route");
    }
    for route in [
        "GET /health",
        "GET /openapi.json",
        "GET /api/analysis/{runId}/progress",
        "GET /api/leads/analyze/bulk/{batchId}/progress",
        "POST /api/webhooks/stripe",
    ] {
        assert!(own[route]["ThrottlingRateLimit"].as_u64().is_some_and(|limit| limit >= 50), "{route}: {own:?}");
    }
}

#[stack_test]
async fn refunds_and_the_webhook_can_have_reserved_concurrency(world: Arc<World>) {
    let template = local::parse_template(&source()).unwrap();
    let reserves = json!({ "Fn::If": ["HasReservedConcurrency", { "Ref": "ReservedConcurrency" }, { "Ref": "AWS::NoValue" }] });
    for name in ["CompensateFunction", "StripeWebhookFunction"] {
        assert_eq!(template["Resources"][name]["Properties"]["ReservedConcurrentExecutions"], reserves, "{name}");
    }
    // A new AWS account may reserve nothing, so the default does not.
    assert_eq!(template["Parameters"]["ReservedConcurrency"]["Default"], "0");
    for name in world.stack.functions().values() {
        let concurrency = world.lambda.get_function_concurrency().function_name(name).send().await.unwrap();
        assert_eq!(concurrency.reserved_concurrent_executions, None, "{name}");
    }
}

#[stack_test]
async fn a_cache_entry_lives_as_long_as_the_code_says(world: Arc<World>) {
    let rules = resources(&world, "AWS::S3::Bucket").into_iter().flat_map(|(_, bucket)| list(&bucket["LifecycleConfiguration"]["Rules"]));
    let days: Vec<u64> =
        rules.filter(|rule| rule["Id"] == "ProfilesLiveAWeek").filter_map(|rule| rule["ExpirationInDays"].as_u64()).collect();
    assert_eq!(days, [oslira_domain::cache::LIFETIME.as_secs() / 86_400]);
    let migration = std::fs::read_to_string(root().join("migrations/V006__runs.sql")).unwrap();
    assert!(migration.contains(&format!("a.completed_at > now() - interval '{} days'", days[0])), "complete_analysis looks back as far");
}

#[stack_test]
async fn tables_and_queues_are_encrypted_without_a_charge(world: Arc<World>) {
    for (name, table) in resources(&world, "AWS::DynamoDB::Table") {
        assert!(table.get("SSESpecification").is_none(), "{name}: without it DynamoDB encrypts with a key that costs nothing");
    }
    for (name, queue) in resources(&world, "AWS::SQS::Queue") {
        assert_eq!(queue["SqsManagedSseEnabled"], json!(true), "{name}");
        let receives = &queue["RedrivePolicy"]["maxReceiveCount"];
        assert!(receives.is_null() || receives.as_u64().is_some_and(|count| count >= 5), "{name}: throttled deliveries count as receives");
    }
}

/// A template over 1 MB cannot be deployed, and one that is too long is not read.
#[test]
fn the_template_stays_short() {
    assert!(source().lines().count() <= 1400, "{} lines", source().lines().count());
}
