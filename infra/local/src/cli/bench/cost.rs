//! Computes what runs and an idle stack cost on AWS, without vendors: what one run did on the emulator, times the list prices of `prices.toml`.
//!
//! Durations are those of this machine, where a function has a whole core. On Lambda it has the share of a core that its memory pays for, so the
//! CPU time is multiplied accordingly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use local::{Stack, logs};
use serde::Deserialize;
use serde_json::Value;

use super::flows::{self, TIERS};
use super::table::{Report, Row};
use crate::cli::api::Api;

/// The functions of a run. The first two are called by its client.
const FUNCTIONS: [&str; 6] = ["start_analysis", "get_progress", "admit", "fetch", "analyze", "save"];
/// The interval between two progress requests of a client.
const POLL: Duration = Duration::from_secs(2);
/// The write units of an update of a progress item: with twelve steps it has one and a half kilobytes.
const PROGRESS_UNITS: f64 = 2.0;
/// The memory that pays for a whole core, in MB.
const CORE_MB: f64 = 1769.0;
/// The bytes that CloudWatch adds to each log line, and those of a line of the access log.
const LINE_OVERHEAD: usize = 26;
const ACCESS_LINE: usize = 450;
const DAYS: f64 = 30.0;

/// The upper bounds in USD: of a thousand runs, and of an idle stack in a month.
const CACHED_LIGHT: f64 = 0.14;
const NEW_XRAY: f64 = 0.33;
const IDLE: f64 = 8.0;

/// List prices in USD. See the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    state_transition: f64,
    lambda_gb_second: f64,
    lambda_request: f64,
    http_request: f64,
    dynamodb_write_unit: f64,
    dynamodb_read_unit: f64,
    s3_get: f64,
    s3_put: f64,
    sqs_request: f64,
    sqs_free_requests: f64,
    secret_request: f64,
    secret_month: f64,
    log_gb: f64,
    metric_month: f64,
    alarm_month: f64,
    dashboard_month: f64,
    free_dashboards: f64,
    trace: f64,
    schedule_invocation: f64,
    queue_polls_a_minute: f64,
}

impl Prices {
    fn read() -> Result<Self> {
        toml::from_str(include_str!("../../../prices.toml")).context("prices.toml")
    }
}

/// What one run did.
#[derive(Debug, Default)]
struct Used {
    transitions: f64,
    invocations: f64,
    gb_seconds: f64,
    http_requests: f64,
    write_units: f64,
    read_units: f64,
    s3_gets: f64,
    s3_puts: f64,
    sqs_requests: f64,
    secret_requests: f64,
    log_bytes: f64,
    traces: f64,
}

impl Used {
    fn cost(&self, prices: &Prices) -> f64 {
        self.transitions * prices.state_transition
            + self.invocations * prices.lambda_request
            + self.gb_seconds * prices.lambda_gb_second
            + self.http_requests * prices.http_request
            + self.write_units * prices.dynamodb_write_unit
            + self.read_units * prices.dynamodb_read_unit
            + self.s3_gets * prices.s3_get
            + self.s3_puts * prices.s3_put
            + self.sqs_requests * prices.sqs_request
            + self.secret_requests * prices.secret_request
            + self.log_bytes / 1e9 * prices.log_gb
            + self.traces * prices.trace
    }

    fn summary(&self) -> String {
        format!(
            "the upper bound; a run: {} transitions, {} invocations, {:.2} GB-s, {} writes, {} reads, {} S3, {} traces, {:.0} KB of logs",
            self.transitions,
            self.invocations,
            self.gb_seconds,
            self.write_units,
            self.read_units,
            self.s3_gets + self.s3_puts,
            self.traces,
            self.log_bytes / 1e3
        )
    }
}

/// Measures a cached LIGHT run and a new XRAY run with the predecessor's vendors, and an idle stack.
pub(super) async fn costs(stack: &Stack, report: &mut Report) {
    for (what, tier, cached, bound) in
        [("1,000 cached LIGHT runs", "light", true, CACHED_LIGHT), ("1,000 new XRAY runs", "xray", false, NEW_XRAY)]
    {
        report.add(what, thousand(stack, what, (tier, cached), bound).await);
    }
    report.add("an idle stack for a month", Prices::read().and_then(|prices| idle(stack.processed_template(), &prices)));
}

async fn thousand(stack: &Stack, what: &str, (tier, cached): (&str, bool), bound: f64) -> Result<Row> {
    let used = used(stack, tier, cached).await?;
    Ok(Row::bounded(what, used.cost(&Prices::read()?) * 1000.0, bound, "USD", used.summary()))
}

/// Makes one run and returns what it used. A run before it has started the environments and, if this one is to be cached, scraped its profile.
async fn used(stack: &Stack, tier: &str, cached: bool) -> Result<Used> {
    let demo = stack.create_account(20).await?;
    let api = Api { http: stack.http(), info: stack.info(), demo: &demo };
    let models =
        TIERS.iter().find(|(known, ..)| *known == tier).map(|(_, seconds, ..)| Duration::from_secs(*seconds)).context("no tier")?;
    let handle = |number: u8| format!("bench.cost.{tier}.{number}");
    flows::delay(stack, &format!("bench.cost.{tier}"), models).await?;
    followed(&api, &handle(0), tier).await?;
    let handle = handle(u8::from(!cached));
    let (before, since, cpu) = (requests(stack).await?, jiff::Timestamp::now().as_millisecond(), cpu(stack));
    let run = followed(&api, &handle, tier).await?;
    let cpu = cpu_since(stack, &cpu);
    let after = requests(stack).await?;
    let made = |kind: &str| {
        let count = |all: &BTreeMap<String, f64>| -> f64 { all.iter().filter(|(known, _)| known.starts_with(kind)).map(|(_, n)| n).sum() };
        count(&after) - count(&before)
    };
    let progress = format!("dynamodb UpdateItem {}", stack.outputs()["ProgressTableName"]);
    let mut used = Used {
        transitions: transitions(stack, &run).await?,
        write_units: made("dynamodb UpdateItem") + made(&progress) * (PROGRESS_UNITS - 1.0),
        read_units: made("dynamodb GetItem") + made("dynamodb Query"),
        s3_gets: made("s3 GET") + made("s3 HEAD"),
        s3_puts: made("s3 PUT"),
        sqs_requests: made("AmazonSQS SendMessage"),
        secret_requests: made("secretsmanager GetSecretValue"),
        ..Used::default()
    };
    let mut memory = 0.0_f64;
    for binary in FUNCTIONS {
        let name = &stack.functions()[binary];
        let lines = logs::lines(&stack.sdk_config(), Some(name), since).await?;
        used.log_bytes += bytes(lines.iter().map(|line| line.text.as_str()));
        let reports: Vec<(f64, f64)> = lines.iter().filter_map(|line| report_of(&line.text)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few invocations")]
        let count = reports.len() as f64;
        ensure!(count > 0.0, "{binary} has logged no invocation");
        used.invocations += count;
        used.gb_seconds += reports.iter().map(|(ms, mb)| ms / 1000.0 * mb / 1024.0).sum::<f64>();
        memory = memory.max(reports[0].1);
        if ["start_analysis", "get_progress"].contains(&binary) {
            used.http_requests += count;
            used.traces += if is_traced(stack, name) { count } else { 0.0 };
        }
    }
    // The execution and its tasks are part of the trace of the request that started it, if that request named its trace.
    let is_joined = used.traces > 0.0 && made("traced AWSStepFunctions StartExecution") > 0.0;
    used.traces += if is_joined { 0.0 } else { 1.0 };
    #[expect(clippy::cast_precision_loss, reason = "less than a kilobyte")]
    let access = ACCESS_LINE as f64;
    used.log_bytes += used.http_requests * access + outbox(stack, &run).await?;
    // At a fraction of a core the CPU's part takes longer, and memory times time is the same however it is divided.
    used.gb_seconds += cpu.as_secs_f64() * (CORE_MB - memory) / 1024.0;
    Ok(used)
}

/// Starts a run, follows it as a client does, and returns its id.
async fn followed(api: &Api<'_>, handle: &str, tier: &str) -> Result<String> {
    let run = api.start(handle, tier).await?;
    let begun = Instant::now();
    loop {
        let progress = api.progress(&run).await?;
        if !progress["completed_at"].is_null() {
            ensure!(progress["status"] == "completed", "the run ended as {progress}");
            return Ok(run);
        }
        ensure!(begun.elapsed() < Duration::from_mins(2), "the run has not ended in time");
        tokio::time::sleep(POLL).await;
    }
}

/// Returns the number of requests that the emulator has received, by kind.
async fn requests(stack: &Stack) -> Result<BTreeMap<String, f64>> {
    let url = format!("{}/_oslira/requests", stack.info().aws_endpoint);
    Ok(stack.http().get(url).send().await?.error_for_status()?.json().await?)
}

/// Returns how many states a run's execution entered.
async fn transitions(stack: &Stack, run: &str) -> Result<f64> {
    let arn = format!("{}:{run}", stack.state_machine_arn().replace(":stateMachine:", ":execution:"));
    let history = aws_sdk_sfn::Client::new(&stack.sdk_config()).get_execution_history().execution_arn(arn).max_results(1000).send().await?;
    let entered = history.events.iter().filter(|event| event.r#type.as_str().ends_with("StateEntered")).count();
    ensure!(entered > 0, "the execution's history has no states");
    Ok(f64::from(u32::try_from(entered)?))
}

/// Publishes the run's metrics and returns the bytes of their log lines.
async fn outbox(stack: &Stack, run: &str) -> Result<f64> {
    let name = &stack.functions()["report_usage"];
    let lambda = aws_sdk_lambda::Client::new(&stack.sdk_config());
    lambda.invoke().function_name(name).send().await?;
    // The emulator reads the lines of an invocation with the response of a later one.
    lambda.invoke().function_name(name).send().await?;
    let lines = logs::lines(&stack.sdk_config(), Some(name), 0).await?;
    Ok(bytes(lines.iter().map(|line| line.text.as_str()).filter(|line| line.contains(run))))
}

#[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
fn bytes<'a>(lines: impl Iterator<Item = &'a str>) -> f64 {
    lines.map(|line| line.len() + LINE_OVERHEAD).sum::<usize>() as f64
}

/// Reads duration in milliseconds and memory in megabytes from Lambda's line `REPORT`.
pub(super) fn report_of(line: &str) -> Option<(f64, f64)> {
    let field = |name: &str| line.split('\t').find_map(|field| field.trim().strip_prefix(name)?.trim().split(' ').next()?.parse().ok());
    line.starts_with("REPORT ").then(|| Some((field("Billed Duration:")?, field("Memory Size:")?)))?
}

fn is_traced(stack: &Stack, name: &str) -> bool {
    let functions = stack.processed_template()["Resources"].as_object().into_iter().flatten().map(|(_, resource)| &resource["Properties"]);
    let own = name.trim_start_matches("oslira-local-");
    functions
        .filter(|function| function["FunctionName"].to_string().contains(&format!("-{own}\"")))
        .any(|function| function["TracingConfig"]["Mode"] == "Active")
}

/// Returns the CPU time of each function's process.
pub(super) fn cpu(stack: &Stack) -> BTreeMap<u32, Duration> {
    // The function that does nothing runs under the name that Lambda gives it.
    let names = stack.functions().keys().map(String::as_str).chain(["bootstrap"]);
    let pids = names.flat_map(|binary| stack.function_pids(binary));
    pids.filter_map(|pid| Some((pid, cpu_of(pid)?))).collect()
}

/// Returns the CPU time that functions have used since `before`.
pub(super) fn cpu_since(stack: &Stack, before: &BTreeMap<u32, Duration>) -> Duration {
    cpu(stack).iter().map(|(pid, time)| time.saturating_sub(before.get(pid).copied().unwrap_or_default())).sum()
}

/// Returns the CPU time of all threads of a process, from the scheduler, to the nanosecond.
fn cpu_of(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let time = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok();
    Some(Duration::from_nanos(threads.filter_map(|thread| time(thread.ok()?.path())).sum()))
}

/// Computes the monthly cost of an idle stack, from its template.
fn idle(template: &Value, prices: &Prices) -> Result<Row> {
    let resources = template["Resources"].as_object().context("no resources")?;
    let conditions = &template["Conditions"];
    let defaults = |condition: &str| match condition {
        "HasDashboard" => template["Parameters"]["DashboardState"]["Default"] == "ENABLED",
        "HasDomain" => false,
        other => !conditions[other].is_null(),
    };
    let of = |kind: &str| {
        let kind = kind.to_owned();
        resources.values().filter(move |resource| resource["Type"] == kind.as_str() && resource["Condition"].as_str().is_none_or(defaults))
    };
    #[expect(clippy::cast_precision_loss, reason = "a few resources")]
    let count = |kind: &str| of(kind).count() as f64;
    let alarms = count("AWS::CloudWatch::Alarm");
    let mut metrics = BTreeMap::new();
    for alarm in of("AWS::CloudWatch::Alarm").map(|alarm| &alarm["Properties"]) {
        // An alarm that treats missing data as good is on a metric that an idle stack does not publish.
        if let Some(schedule) = alarm["Dimensions"].get(1).filter(|one| one["Name"] == "schedule").and_then(|one| one["Value"].as_str())
            && alarm["TreatMissingData"] != "notBreaching"
        {
            // A metric is charged for the hours in which it has data.
            let hours = if ["report_usage", "end_stuck_runs"].contains(&schedule) { 1.0 } else { 1.0 / 24.0 };
            metrics.insert((alarm["MetricName"].to_string(), schedule), hours);
        }
    }
    let text = template.to_string();
    let mut secrets: Vec<&str> =
        text.split("secret:oslira/${Environment}/").skip(1).filter_map(|rest| rest.split("-??????").next()).collect();
    if secrets.is_empty() {
        secrets = text.split("secret:oslira/local/").skip(1).filter_map(|rest| rest.split("-??????").next()).collect();
    }
    secrets.sort_unstable();
    secrets.dedup();
    #[expect(clippy::cast_precision_loss, reason = "a few secrets")]
    let secrets = secrets.len() as f64;
    let minutes = DAYS * 24.0 * 60.0;
    let polls = (count("AWS::Lambda::EventSourceMapping") * prices.queue_polls_a_minute * minutes - prices.sqs_free_requests).max(0.0);
    let invocations = minutes * (1.0 + 1.0 / 60.0);
    let functions = invocations * (prices.schedule_invocation + prices.lambda_request + 0.05 * 0.25 * prices.lambda_gb_second)
        + invocations * 1500.0 / 1e9 * prices.log_gb;
    let dashboards = (count("AWS::CloudWatch::Dashboard") - prices.free_dashboards).max(0.0);
    let parts = [
        ("secrets", secrets, secrets * prices.secret_month),
        ("alarms", alarms, alarms * prices.alarm_month),
        ("charged dashboards", dashboards, dashboards * prices.dashboard_month),
        ("metrics", metrics.values().sum(), metrics.values().sum::<f64>() * prices.metric_month),
        ("polls of queues", polls, polls * prices.sqs_request),
        ("runs of schedules", invocations, functions),
    ];
    ensure!(parts[0].1 >= 5.0 && parts[1].1 >= 10.0, "the template was not understood: {parts:?}");
    let detail: Vec<String> = parts.iter().map(|(name, amount, cost)| format!("{amount:.0} {name} {cost:.2}")).collect();
    let total = parts.iter().map(|(.., cost)| cost).sum();
    Ok(Row::bounded("an idle stack for a month", total, IDLE, "USD", format!("the upper bound; {}", detail.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_what_it_uses_times_the_list_prices() {
        let prices = Prices::read().unwrap();
        let used = Used { transitions: 4.0, invocations: 6.0, gb_seconds: 0.6, write_units: 20.0, traces: 2.0, ..Used::default() };
        let thousand = used.cost(&prices) * 1000.0;
        let expected = 4.0 * 0.025 + 6.0 * 0.0002 + 0.6 * 0.013_333_4 + 20.0 * 0.000_705 + 2.0 * 0.005;
        assert!((thousand - expected).abs() < 1e-9, "{thousand} {expected}");
        // One state or one trace more is seen.
        assert!(Used { transitions: 5.0, ..used }.cost(&prices) * 1000.0 > thousand + 0.02);
    }

    #[test]
    fn duration_and_memory_are_read_from_the_report_of_an_invocation() {
        let line = "REPORT RequestId: r\tDuration: 12.4 ms\tBilled Duration: 13 ms\tMemory Size: 256 MB";
        assert_eq!(report_of(line), Some((13.0, 256.0)));
        assert_eq!(report_of("{\"level\":\"INFO\"}"), None);
    }
}
