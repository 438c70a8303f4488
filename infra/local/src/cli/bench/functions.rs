//! Measures single functions: their starts, the time of a read beyond its SQL, and their sizes.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use local::{Demo, Stack};
use oslira_credential::Credential;
use oslira_db::leads::{LeadFilter, LeadOrder};
use oslira_db::{Claims, DatabaseLogin, Slice, UserDb};
use oslira_domain::{LeadId, RunId, UserId};
use serde_json::{Value, json};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use super::runtime::Process;
use super::table::{Report, Row, median};
use crate::cli::api::Api;

/// The function that does nothing.
pub(super) const HELLO: &str = "hello";

/// Returns the environment variables of a function on Lambda: its own and Lambda's.
async fn environment(stack: &Stack, binary: &str) -> Result<Vec<(String, String)>> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    if let Some(name) = stack.functions().get(binary) {
        let configuration =
            aws_sdk_lambda::Client::new(&stack.sdk_config()).get_function_configuration().function_name(name).send().await?;
        variables.extend(configuration.environment().and_then(|environment| environment.variables()).cloned().unwrap_or_default());
    }
    let reserved = [
        ("AWS_LAMBDA_FUNCTION_NAME", binary),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
    ];
    let reserved = reserved.into_iter().chain(stack.info().aws_environment());
    variables.extend(reserved.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(variables.into_iter().collect())
}

/// A function whose process can be started repeatedly.
struct Subject<'a> {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    aws_endpoint: &'a str,
}

impl<'a> Subject<'a> {
    async fn new(stack: &'a Stack, name: &str) -> Result<Self> {
        Ok(Self { binary: stack.binary(name), environment: environment(stack, name).await?, aws_endpoint: &stack.info().aws_endpoint })
    }

    async fn start(&self) -> Result<Process> {
        Process::start(&self.binary, &self.environment, self.aws_endpoint).await
    }
}

/// Measures each function's start: from the start of its process to the response to its first event, beside that of a Lambda function that does
/// nothing. What a function does during init, it need not do in that event, and the other way round: only the sum says how long a client waits.
pub(super) async fn starts(stack: &Stack, repeats: usize, report: &mut Report) {
    let demo = match stack.create_account(25).await {
        Ok(demo) => demo,
        Err(error) => return report.add("starts", Err(error)),
    };
    for name in stack.functions().keys() {
        report.add(&format!("start of `{name}`"), start(stack, &demo, name, repeats).await);
    }
}

async fn start(stack: &Stack, demo: &Demo, name: &str, repeats: usize) -> Result<Row> {
    let (hello, subject) = (Subject::new(stack, HELLO).await?, Subject::new(stack, name).await?);
    let event = sample(name, demo)?;
    let (mut floors, mut times, mut inits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        let mut process = hello.start().await?;
        floors.push(process.init + process.invoke(&event).await?.0);
        let mut process = subject.start().await?;
        inits.push(process.init);
        times.push(process.init + process.invoke(&event).await?.0);
    }
    let beside = format!("a Lambda function that does nothing; init alone: {:.1} ms", median(inits).as_secs_f64() * 1e3);
    Ok(Row::times(format!("init and first request of `{name}`"), median(times), median(floors), beside))
}

/// Returns the sample event of a function, with a token that is valid on this stack.
fn sample(name: &str, demo: &Demo) -> Result<Value> {
    let path = format!("{}/../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(&path).with_context(|| path.clone())?)?;
    if let Some(headers) = event["headers"].as_object_mut() {
        headers.insert("authorization".to_owned(), json!(format!("Bearer {}", demo.token)));
    }
    Ok(event)
}

/// An account with ten leads.
struct Reader {
    demo: Demo,
    claims: Claims,
    db: UserDb,
    lead: LeadId,
    run: RunId,
}

impl Reader {
    async fn new(stack: &Stack) -> Result<Self> {
        let demo = stack.create_account(25).await?;
        let api = Api { http: stack.http(), info: stack.info(), demo: &demo };
        let mut last = Value::Null;
        for number in 0..10 {
            let run = api.start(&format!("bench.reader.{number}"), "light").await?;
            last = super::flows::ended(&api, &run).await?;
        }
        let result = api.result(last["run_id"].as_str().context("no run id")?).await?;
        let run: RunId = serde_json::from_value(result["run_id"].clone())?;
        let lead: LeadId = serde_json::from_value(result["lead_id"].clone())?;
        let user: UserId = serde_json::from_value(json!(stack.owner_of(&demo).await?))?;
        let url = stack.info().database_url.clone();
        let login = Credential::fixed(DatabaseLogin { url: url.into(), ca: None });
        Ok(Self { demo, claims: Claims { user_id: user }, db: UserDb::new(login), lead, run })
    }

    /// Runs the statement of an endpoint, on a connection like its own.
    async fn statement(&self, binary: &str) -> Result<Duration> {
        let begun = Instant::now();
        let order = LeadOrder::LastAnalyzedAt;
        let filter = LeadFilter { business_profile_id: None, search: None, order, descending: true };
        match binary {
            "get_balance" => drop(self.db.balance(&self.claims, None).await?),
            "list_leads" => drop(self.db.leads(&self.claims, None, &filter, Slice { limit: 50, offset: 0, as_of: None }).await?),
            "get_lead" => drop(self.db.lead(&self.claims, None, self.lead).await?),
            _ => drop(self.db.run(&self.claims, None, &self.run).await?),
        }
        Ok(begun.elapsed())
    }

    fn event(&self, route: &str, path: &str, parameters: &Value) -> Value {
        json!({
            "version": "2.0", "routeKey": format!("GET {route}"), "rawPath": path, "rawQueryString": "",
            "headers": {"authorization": format!("Bearer {}", self.demo.token), "host": "bench"},
            "pathParameters": parameters, "isBase64Encoded": false,
            "requestContext": {
                "accountId": "1", "apiId": "bench", "domainName": "bench", "domainPrefix": "bench", "requestId": "bench",
                "routeKey": format!("GET {route}"), "stage": "$default", "time": "23/Nov/2026:02:00:00 +0000", "timeEpoch": 1_795_399_376_000_i64,
                "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench"}
            }
        })
    }
}

/// Measures warm reads beside their statement and the round trip of a Lambda function that does nothing.
pub(super) async fn reads(stack: &Stack, repeats: usize, report: &mut Report) {
    let reader = match Reader::new(stack).await {
        Ok(reader) => reader,
        Err(error) => return report.add("warm reads", Err(error)),
    };
    let (lead, run) = (reader.lead.to_string(), reader.run.as_str().to_owned());
    let endpoints = [
        ("get_balance", "/api/credits/balance".to_owned(), "/api/credits/balance", json!({})),
        ("list_leads", "/api/leads".to_owned(), "/api/leads", json!({})),
        ("get_lead", format!("/api/leads/{lead}"), "/api/leads/{leadId}", json!({ "leadId": lead })),
        ("get_result", format!("/api/analysis/{run}/result"), "/api/analysis/{runId}/result", json!({ "runId": run })),
    ];
    for (binary, path, route, parameters) in endpoints {
        let event = reader.event(route, &path, &parameters);
        report.add(&format!("warm `{binary}`"), read(stack, &reader, binary, &event, repeats).await);
    }
}

async fn read(stack: &Stack, reader: &Reader, binary: &str, event: &Value, repeats: usize) -> Result<Row> {
    let mut hello = Subject::new(stack, HELLO).await?.start().await?;
    let mut process = Subject::new(stack, binary).await?.start().await?;
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 0..repeats + 10 {
        let floor = reader.statement(binary).await? + hello.invoke(event).await?.0;
        let (time, response) = process.invoke(event).await?;
        ensure!(response["statusCode"] == 200, "{binary} returned {response}");
        // The first rounds open connections and fetch keys.
        if round >= 10 {
            floors.push(floor);
            times.push(time);
        }
    }
    Ok(Row::times(format!("warm `{binary}`"), median(times), median(floors), "its SQL, and a Lambda function that does nothing"))
}

/// The upper bound for a zipped function, in MB.
const MAXIMUM_SIZE: f64 = 5.0;

/// Measures the zipped functions beside the upper bound.
pub(super) fn sizes(stack: &Stack, report: &mut Report) {
    for name in stack.functions().keys() {
        report.add(&format!("zipped `{name}`"), size(stack, name));
    }
}

/// Returns a function as it is deployed.
pub(super) fn zipped(stack: &Stack, name: &str) -> Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(0o755);
    zip.start_file("bootstrap", options)?;
    zip.write_all(&std::fs::read(stack.binary(name))?)?;
    Ok(zip.finish()?.into_inner())
}

fn size(stack: &Stack, name: &str) -> Result<Row> {
    #[expect(clippy::cast_precision_loss, reason = "a size of a few megabytes")]
    let size = zipped(stack, name)?.len() as f64 / 1e6;
    Ok(Row::bounded(format!("zipped `{name}`"), size, MAXIMUM_SIZE, "MB", "the upper bound"))
}
