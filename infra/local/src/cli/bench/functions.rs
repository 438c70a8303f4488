//! Single functions: how fast they start, how much a read takes beyond its SQL, how large they are.

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
use super::table::{Row, median};
use crate::cli::api::Api;

/// The binary that does nothing.
const HELLO: &str = "hello";

/// The environment that Lambda gives a function: its own variables and Lambda's.
async fn environment(stack: &Stack, binary: &str) -> Result<Vec<(String, String)>> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    if let Some(name) = stack.functions().get(binary) {
        let configuration =
            aws_sdk_lambda::Client::new(&stack.sdk_config()).get_function_configuration().function_name(name).send().await?;
        variables.extend(configuration.environment().and_then(|environment| environment.variables()).cloned().unwrap_or_default());
    }
    let usual = [
        ("AWS_LAMBDA_FUNCTION_NAME", binary),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    variables.extend(usual.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(variables.into_iter().collect())
}

/// What it takes to start a function's process, again and again.
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

/// From the start of each function's process to its first poll, beside that of a Lambda that does nothing.
pub(super) async fn starts(stack: &Stack, repeats: usize) -> Result<Vec<Row>> {
    let hello = Subject::new(stack, HELLO).await?;
    let mut rows = Vec::new();
    for name in stack.functions().keys() {
        let subject = Subject::new(stack, name).await?;
        let (mut floors, mut times) = (Vec::new(), Vec::new());
        for _ in 0..repeats {
            floors.push(hello.start().await?.init);
            times.push(subject.start().await?.init);
        }
        rows.push(Row::times(format!("init of `{name}`"), median(times), median(floors), "a Lambda that does nothing"));
    }
    rows.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
    Ok(rows)
}

/// One account with a few leads.
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

    /// The statement of an endpoint, on a connection of its kind.
    async fn statement(&self, binary: &str) -> Result<Duration> {
        let begun = Instant::now();
        let order = LeadOrder::LastAnalyzedAt;
        let filter = LeadFilter { business_profile_id: None, search: None, order, descending: true };
        match binary {
            "get_balance" => drop(self.db.balance(&self.claims, None).await?),
            "list_leads" => drop(self.db.leads(&self.claims, None, &filter, Slice { limit: 50, offset: 0, as_of: None }).await?),
            "get_lead" => drop(self.db.lead(&self.claims, None, self.lead).await?),
            _ => drop(self.db.run(&self.claims, &self.run).await?),
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

/// Warm reads beside their statement and the round trip of a Lambda that does nothing.
pub(super) async fn reads(stack: &Stack, repeats: usize) -> Result<Vec<Row>> {
    let reader = Reader::new(stack).await?;
    let (lead, run) = (reader.lead.to_string(), reader.run.as_str().to_owned());
    let endpoints = [
        ("get_balance", "/api/credits/balance".to_owned(), "/api/credits/balance", json!({})),
        ("list_leads", "/api/leads".to_owned(), "/api/leads", json!({})),
        ("get_lead", format!("/api/leads/{lead}"), "/api/leads/{leadId}", json!({ "leadId": lead })),
        ("get_result", format!("/api/analysis/{run}/result"), "/api/analysis/{runId}/result", json!({ "runId": run })),
    ];
    let mut hello = Subject::new(stack, HELLO).await?.start().await?;
    let mut rows = Vec::new();
    for (binary, path, route, parameters) in endpoints {
        let mut process = Subject::new(stack, binary).await?.start().await?;
        let event = reader.event(route, &path, &parameters);
        let (mut floors, mut times) = (Vec::new(), Vec::new());
        for round in 0..repeats + 10 {
            let floor = reader.statement(binary).await? + hello.invoke(&event).await?.0;
            let (time, answer) = process.invoke(&event).await?;
            ensure!(answer["statusCode"] == 200, "{binary} answers {answer}");
            // The first ones open connections and fetch keys.
            if round >= 10 {
                floors.push(floor);
                times.push(time);
            }
        }
        let row = Row::times(format!("warm `{binary}`"), median(times), median(floors), "its SQL, and a Lambda that does nothing");
        rows.push(row);
    }
    Ok(rows)
}

/// Zipped, beside the 5 MB that are the most that we want.
pub(super) fn sizes(stack: &Stack) -> Result<Vec<Row>> {
    let mut sizes = Vec::new();
    for name in stack.functions().keys() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("bootstrap", SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))?;
        zip.write_all(&std::fs::read(stack.binary(name))?)?;
        #[expect(clippy::cast_precision_loss, reason = "a size of a few megabytes")]
        let size = zip.finish()?.into_inner().len() as f64 / 1e6;
        let row = Row {
            what: format!("zipped `{name}`"),
            measured: size,
            floor: 5.0,
            unit: "MB",
            beside: "the most that we want".to_owned(),
            ratio: size / 5.0,
        };
        sizes.push(row);
    }
    sizes.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
    Ok(sizes)
}
