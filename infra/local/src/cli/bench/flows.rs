//! Whole analyses, and money, on the stack.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use local::{Demo, Stack};
use serde_json::{Value, json};

use super::table::{Row, median};
use crate::cli::api::Api;

const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(5);

/// Vendors as the predecessor had them: an Actor run, and what each tier's models took, of which all calls go out at once.
const ACTOR_START: Duration = Duration::from_secs(6);
const PROFILE: Duration = Duration::from_millis(200);
/// Tier, its models, and the predecessor's own figures, cold and cached.
const TIERS: [(&str, u64, u64, u64); 3] = [("light", 2, 6, 2), ("deep", 12, 18, 12), ("xray", 10, 16, 10)];
/// The predecessor's time for a batch of a hundred.
const BULK: Duration = Duration::from_secs(75);
/// Actor runs at once, and handles in each: what Apify allows.
const GROUP: u32 = 10;

fn api<'a>(stack: &'a Stack, demo: &'a Demo) -> Api<'a> {
    Api { http: stack.http(), info: stack.info(), demo }
}

/// Waits for a run's end and answers its progress.
pub(super) async fn ended(api: &Api<'_>, run: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let progress = api.progress(run).await?;
        if !progress["completed_at"].is_null() {
            ensure!(progress["status"] == "completed", "the run {run} ended as {progress}");
            return Ok(progress);
        }
        ensure!(begun.elapsed() < PATIENCE, "the run {run} does not end");
        tokio::time::sleep(POLL * 20).await;
    }
}

/// Six states that do nothing, in the place of ours.
struct Empty {
    sfn: aws_sdk_sfn::Client,
    arn: String,
}

impl Empty {
    async fn new(stack: &Stack) -> Result<Self> {
        let sfn = aws_sdk_sfn::Client::new(&stack.sdk_config());
        let role = sfn.describe_state_machine().state_machine_arn(stack.state_machine_arn()).send().await?.role_arn;
        let definition = json!({"StartAt": "Admit", "States": {
            "Admit": {"Type": "Pass", "Next": "CheckCache"},
            "CheckCache": {"Type": "Pass", "Next": "CacheHit"},
            "CacheHit": {"Type": "Choice", "Choices": [{"Variable": "$.hit", "BooleanEquals": true, "Next": "Analyze"}], "Default": "Scrape"},
            "Scrape": {"Type": "Pass", "Next": "Analyze"},
            "Analyze": {"Type": "Map", "ItemsPath": "$.calls", "Next": "Save", "ItemProcessor": {
                "StartAt": "Ask", "States": {"Ask": {"Type": "Pass", "End": true}}}},
            "Save": {"Type": "Pass", "End": true},
        }});
        let made = sfn.create_state_machine().name("empty").role_arn(role).definition(definition.to_string()).send().await?;
        Ok(Self { arn: made.state_machine_arn, sfn })
    }

    async fn run(&self) -> Result<Duration> {
        let begun = Instant::now();
        let input = r#"{"hit":false,"calls":["core"]}"#;
        let started = self.sfn.start_execution().state_machine_arn(&self.arn).input(input).send().await?;
        succeeded(&self.sfn, &started.execution_arn).await?;
        Ok(begun.elapsed())
    }
}

async fn succeeded(sfn: &aws_sdk_sfn::Client, execution: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let status = sfn.describe_execution().execution_arn(execution).send().await?.status;
        match status.as_str() {
            "SUCCEEDED" => return Ok(()),
            "RUNNING" if begun.elapsed() < PATIENCE => tokio::time::sleep(POLL).await,
            other => bail!("an execution ended as {other}"),
        }
    }
}

/// From the request to the end of its execution.
async fn analysis(stack: &Stack, empty: &Empty, demo: &Demo, handle: &str) -> Result<Duration> {
    let begun = Instant::now();
    let run = api(stack, demo).start(handle, "light").await?;
    let execution = format!("{}:{run}", stack.state_machine_arn().replace(":stateMachine:", ":execution:"));
    succeeded(&empty.sfn, &execution).await?;
    Ok(begun.elapsed())
}

/// A LIGHT run whose vendors answer at once.
pub(super) async fn light(stack: &Stack, repeats: usize) -> Result<Vec<Row>> {
    let (empty, demo) = (Empty::new(stack).await?, stack.create_account(100).await?);
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 0..=repeats {
        let (floor, time) = (empty.run().await?, analysis(stack, &empty, &demo, &format!("bench.light.{round}")).await?);
        if round > 0 {
            floors.push(floor);
            times.push(time);
        }
    }
    let beside = "an execution of the same shape whose states do nothing (Pass)";
    Ok(vec![Row::times("a LIGHT run, vendors answering at once", median(times), median(floors), beside)])
}

/// A hundred LIGHT runs at once.
pub(super) async fn crowd(stack: &Stack) -> Result<Vec<Row>> {
    let (empty, demo) = (Empty::new(stack).await?, stack.create_account(100).await?);
    let begun = Instant::now();
    try_join_all((0..100).map(|_| empty.run())).await?;
    let floor = begun.elapsed();
    let begun = Instant::now();
    let handles: Vec<String> = (0..100).map(|number| format!("bench.crowd.{number}")).collect();
    try_join_all(handles.iter().map(|handle| analysis(stack, &empty, &demo, handle))).await?;
    Ok(vec![Row::times("100 LIGHT runs at once", begun.elapsed(), floor, "100 executions whose states do nothing")])
}

async fn delay(stack: &Stack, text: &str, model: Duration) -> Result<()> {
    let url = format!("{}/_control/latency", stack.info().sandbox);
    let actor = json!({"vendor": "apify", "match": text, "start_ms": millis(ACTOR_START), "per_profile_ms": millis(PROFILE)});
    for order in [actor, json!({"vendor": "openai", "match": text, "ms": millis(model)})] {
        stack.http().post(&url).json(&order).send().await?.error_for_status()?;
    }
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Each tier with the predecessor's vendors, cold and then from the cache.
pub(super) async fn tiers(stack: &Stack) -> Result<Vec<Row>> {
    let demo = stack.create_account(100).await?;
    let mut rows = Vec::new();
    for (tier, seconds, cold, cached) in TIERS {
        let (handle, models) = (format!("bench.tier.{tier}"), Duration::from_secs(seconds));
        delay(stack, &handle, models).await?;
        for (how, floor, before) in [("cold", ACTOR_START + PROFILE + models, cold), ("cached", models, cached)] {
            let begun = Instant::now();
            let run = api(stack, &demo).start(&handle, tier).await?;
            ended(&api(stack, &demo), &run).await?;
            let beside = format!("what its vendors take; the predecessor's own: {before} s");
            rows.push(Row::times(format!("{} {how}", tier.to_uppercase()), begun.elapsed(), floor, beside));
        }
    }
    Ok(rows)
}

/// A hundred handles in a batch.
pub(super) async fn bulk(stack: &Stack) -> Result<Vec<Row>> {
    let demo = stack.create_account(100).await?;
    let api = api(stack, &demo);
    delay(stack, "bench.bulk.", Duration::from_secs(TIERS[0].1)).await?;
    let handles: Vec<String> = (0..100).map(|number| format!("bench.bulk.{number}")).collect();
    let begun = Instant::now();
    let body = json!({ "usernames": handles, "businessProfileId": demo.business_profile_id, "analysisType": "light" });
    let batch = api.post("/api/leads/analyze/bulk", &body, None).await?;
    let path = format!("/api/leads/analyze/bulk/{}/progress", batch["batch_id"].as_str().context("no batch id")?);
    loop {
        let progress = api.get(&path).await?;
        if progress["is_complete"] == true {
            ensure!(progress["status_counts"]["completed"] == 100, "the batch ended as {progress}");
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "the batch does not end");
        tokio::time::sleep(POLL * 50).await;
    }
    let floor = ACTOR_START + PROFILE * GROUP + Duration::from_secs(TIERS[0].1);
    let beside = format!("ten Actor runs at once, then the models; the predecessor's own: {} s", BULK.as_secs());
    Ok(vec![Row::times("a batch of 100", begun.elapsed(), floor, beside)])
}

/// Debits of one account, one after the other: our statement that charges a run, beside an update of one row.
pub(super) async fn debits(stack: &Stack) -> Result<Vec<Row>> {
    const ROUNDS: usize = 500;
    let demo = stack.create_account(1_000).await?;
    let (client, connection) = tokio_postgres::connect(&stack.info().admin_database_url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("CREATE TEMP TABLE plain (id int PRIMARY KEY, balance int); INSERT INTO plain VALUES (1, 1000000)").await?;
    let admit = client.prepare("SELECT admit_analysis($1, $2)->>'outcome'").await?;
    let update = client.prepare("UPDATE plain SET balance = balance - 1 WHERE id = 1").await?;
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        client.execute(&update, &[]).await?;
        floors.push(begun.elapsed());
        let run = format!("run_{:032x}", rand::random::<u128>());
        let seed = json!({"account_id": demo.account_id, "business_profile_id": demo.business_profile_id, "tier": "light",
            "username": format!("bench.debit.{round}")});
        let begun = Instant::now();
        let outcome: Option<String> = client.query_one(&admit, &[&run, &seed]).await?.get(0);
        times.push(begun.elapsed());
        ensure!(outcome.as_deref() == Some("admitted"), "a debit ended as {outcome:?}");
    }
    let (time, floor) = (median(times), median(floors));
    let rate = |time: Duration| 1.0 / time.as_secs_f64();
    let beside = "updates of one row of a temporary table on the same connection".to_owned();
    Ok(vec![Row {
        what: "debits".to_owned(),
        measured: rate(time),
        floor: rate(floor),
        unit: "/s",
        beside,
        ratio: time.as_secs_f64() / floor.as_secs_f64(),
    }])
}
