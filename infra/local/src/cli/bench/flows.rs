//! Measures whole analyses and debits on the stack.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use local::{Demo, Stack};
use serde_json::{Value, json};

use oslira_credential::Credential;
use oslira_db::workflow::{Admission, AdmissionOutcome};
use oslira_db::{AdminDb, DatabaseLogin};
use oslira_domain::Run;

use super::table::{Report, Row, median};
use crate::cli::api::Api;

const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(5);

/// The vendors' times in the predecessor: an Actor run, and the models of each tier, which are called at once.
const ACTOR_START: Duration = Duration::from_secs(6);
const PROFILE: Duration = Duration::from_millis(200);
/// A tier, the seconds of its models, and the predecessor's seconds for a whole run, cold and cached.
const TIERS: [(&str, u64, u64, u64); 3] = [("light", 2, 6, 2), ("deep", 12, 18, 12), ("xray", 10, 16, 10)];
/// The predecessor's time for a batch of a hundred profiles.
const BULK: Duration = Duration::from_secs(75);
/// The number of handles in an Actor run, and of Actor runs at once, that Apify allows.
const GROUP: u32 = 10;

fn api<'a>(stack: &'a Stack, demo: &'a Demo) -> Api<'a> {
    Api { http: stack.http(), info: stack.info(), demo }
}

/// Waits for the end of a run and returns its progress.
pub(super) async fn ended(api: &Api<'_>, run: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let progress = api.progress(run).await?;
        if !progress["completed_at"].is_null() {
            ensure!(progress["status"] == "completed", "the run {run} ended as {progress}");
            return Ok(progress);
        }
        ensure!(begun.elapsed() < PATIENCE, "the run {run} has not ended in time");
        tokio::time::sleep(POLL * 20).await;
    }
}

/// A state machine whose four states do nothing.
struct Empty {
    sfn: aws_sdk_sfn::Client,
    arn: String,
}

impl Empty {
    async fn new(stack: &Stack) -> Result<Self> {
        let sfn = aws_sdk_sfn::Client::new(&stack.sdk_config());
        let role = sfn.describe_state_machine().state_machine_arn(stack.state_machine_arn()).send().await?.role_arn;
        let definition = json!({"StartAt": "Admit", "States": {
            "Admit": {"Type": "Pass", "Next": "Fetch"},
            "Fetch": {"Type": "Pass", "Next": "Analyze"},
            "Analyze": {"Type": "Pass", "Next": "Save"},
            "Save": {"Type": "Pass", "End": true},
        }});
        let made = sfn.create_state_machine().name("empty").role_arn(role).definition(definition.to_string()).send().await?;
        Ok(Self { arn: made.state_machine_arn, sfn })
    }

    async fn run(&self) -> Result<Duration> {
        let begun = Instant::now();
        let started = self.sfn.start_execution().state_machine_arn(&self.arn).send().await?;
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
            // Less often the longer it takes: a hundred pollers take time from the emulator.
            "RUNNING" if begun.elapsed() < PATIENCE => tokio::time::sleep((begun.elapsed() / 20).max(POLL)).await,
            other => bail!("an execution ended as {other}"),
        }
    }
}

/// Runs one analysis and returns the time from the request to the end of its execution.
async fn analysis(stack: &Stack, sfn: &aws_sdk_sfn::Client, demo: &Demo, (handle, tier): (&str, &str)) -> Result<Duration> {
    let begun = Instant::now();
    let run = api(stack, demo).start(handle, tier).await?;
    let execution = format!("{}:{run}", stack.state_machine_arn().replace(":stateMachine:", ":execution:"));
    succeeded(sfn, &execution).await?;
    Ok(begun.elapsed())
}

/// Measures a LIGHT run whose vendors respond at once.
pub(super) async fn light(stack: &Stack, repeats: usize) -> Result<Row> {
    let (empty, demo) = (Empty::new(stack).await?, stack.create_account(100).await?);
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 0..=repeats {
        let handle = format!("bench.light.{round}");
        let (floor, time) = (empty.run().await?, analysis(stack, &empty.sfn, &demo, (&handle, "light")).await?);
        if round > 0 {
            floors.push(floor);
            times.push(time);
        }
    }
    let beside = "an execution of the same shape whose states do nothing (Pass)";
    Ok(Row::times("a LIGHT run whose vendors respond at once", median(times), median(floors), beside))
}

/// Measures a hundred LIGHT runs at once.
pub(super) async fn crowd(stack: &Stack) -> Result<Row> {
    let (empty, demo) = (Empty::new(stack).await?, stack.create_account(100).await?);
    let begun = Instant::now();
    try_join_all((0..100).map(|_| empty.run())).await?;
    let floor = begun.elapsed();
    let begun = Instant::now();
    let handles: Vec<String> = (0..100).map(|number| format!("bench.crowd.{number}")).collect();
    try_join_all(handles.iter().map(|handle| analysis(stack, &empty.sfn, &demo, (handle, "light")))).await?;
    Ok(Row::times("100 LIGHT runs at once", begun.elapsed(), floor, "100 executions whose states do nothing"))
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

/// Measures each tier with the predecessor's vendors, cold and then from the cache.
pub(super) async fn tiers(stack: &Stack, report: &mut Report) {
    for (tier, seconds, cold, cached) in TIERS {
        let models = Duration::from_secs(seconds);
        for (how, floor, before) in [("cold", ACTOR_START + PROFILE + models, cold), ("cached", models, cached)] {
            let what = format!("{} {how}", tier.to_uppercase());
            let time = with_vendors(stack, tier, models).await;
            let beside = format!("the vendors' time; the predecessor: {before} s");
            report.add(&what, time.map(|time| Row::times(&what, time, floor, beside)));
        }
    }
}

/// Runs one analysis of a tier with slow vendors. The first one of a tier scrapes its profile, the second one finds it in the cache.
async fn with_vendors(stack: &Stack, tier: &str, models: Duration) -> Result<Duration> {
    let (sfn, demo) = (aws_sdk_sfn::Client::new(&stack.sdk_config()), stack.create_account(100).await?);
    let handle = format!("bench.tier.{tier}");
    delay(stack, &handle, models).await?;
    analysis(stack, &sfn, &demo, (&handle, tier)).await
}

/// Measures a batch of a hundred handles.
pub(super) async fn bulk(stack: &Stack) -> Result<Row> {
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
        ensure!(begun.elapsed() < PATIENCE, "the batch has not ended in time");
        tokio::time::sleep(POLL * 50).await;
    }
    let floor = ACTOR_START + PROFILE * GROUP + Duration::from_secs(TIERS[0].1);
    let beside = format!("ten Actor runs at once, then the models; the predecessor: {} s", BULK.as_secs());
    Ok(Row::times("a batch of 100", begun.elapsed(), floor, beside))
}

/// The number of clients that debit one account, and of debits by each.
const CLIENTS: usize = 8;
const DEBITS: usize = 250;

/// Measures debits of one account by several clients at once: the call of `Admit` beside `pgbench` with the same statement.
pub(super) async fn debits(stack: &Stack) -> Result<Row> {
    let credits = u32::try_from(CLIENTS * DEBITS)?;
    let (ours, theirs) = tokio::try_join!(stack.create_account(credits), stack.create_account(credits))?;
    let floor = pgbench(stack, &theirs).await?;
    let runs = (0..CLIENTS).map(|client| debit(stack, &ours, client));
    let begun = Instant::now();
    try_join_all(runs).await?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = (CLIENTS * DEBITS) as f64 / begun.elapsed().as_secs_f64();
    for demo in [&ours, &theirs] {
        let left = api(stack, demo).get("/api/credits/balance").await?["current_balance"].clone();
        ensure!(left == 0, "{left} credits are left: debits are missing");
    }
    let what = format!("debits of one account by {CLIENTS} clients");
    let beside = "pgbench with the same statement".to_owned();
    Ok(Row { what, measured: rate, floor, unit: "/s", beside, ratio: floor / rate })
}

async fn debit(stack: &Stack, demo: &Demo, client: usize) -> Result<()> {
    let url = stack.info().admin_database_url.clone();
    let db = AdminDb::persistent(Credential::fixed(DatabaseLogin { url: url.into(), ca: None }));
    for number in 0..DEBITS {
        let run: Run = serde_json::from_value(json!({
            "run_id": format!("run_{:032x}", rand::random::<u128>()), "account_id": demo.account_id,
            "business_profile_id": demo.business_profile_id, "requested_by": uuid::Uuid::nil(),
            "username": format!("debit_{client}_{number}"), "tier": "light", "requested_at_ms": 1_795_399_376_000_i64,
        }))?;
        ensure!(matches!(db.admit(&run).await?, Admission { outcome: AdmissionOutcome::Admitted, .. }), "a debit was rejected");
    }
    Ok(())
}

/// Returns the transactions a second that `pgbench` reports.
async fn pgbench(stack: &Stack, demo: &Demo) -> Result<f64> {
    let beside_server = local::newest_postgres().map(|binaries| binaries.join("pgbench")).filter(|program| program.exists());
    let program = beside_server.unwrap_or_else(|| "pgbench".into());
    let script = stack.state_dir().join("debit.sql");
    let text = format!(
        "\\set n random(1, 9000000000000000000)\nBEGIN;\nSET LOCAL ROLE service_role;\n\
         SELECT admit_analysis('run_' || md5(:n::text), jsonb_build_object('account_id', '{}', 'business_profile_id', '{}', \
         'tier', 'light', 'username', left(md5(:n::text), 24)));\nCOMMIT;\n",
        demo.account_id, demo.business_profile_id
    );
    std::fs::write(&script, text)?;
    let mut command = tokio::process::Command::new(program);
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
    command.args([format!("--client={CLIENTS}"), format!("--transactions={DEBITS}"), format!("--file={}", script.display())]);
    let output = command.arg(&stack.info().admin_database_url).kill_on_drop(true).output().await.context("cannot run pgbench")?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    // "tps = 1234.567890 (without initial connection time)"
    let text = String::from_utf8(output.stdout)?;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()).context("pgbench reports no rate")?;
    Ok(rate.parse()?)
}
