//! Measures whole analyses and debits on the stack.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use local::{Demo, Stack, logs};
use serde_json::{Value, json};

use oslira_credential::Credential;
use oslira_db::workflow::{Admission, AdmissionOutcome};
use oslira_db::{AdminDb, DatabaseLogin};
use oslira_domain::Run;

use super::cost;
use super::table::{Report, Row, median};
use crate::cli::api::Api;

const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(5);

/// The vendors' times in the predecessor: an Actor run, and the models of each tier, which are called at once.
const ACTOR_START: Duration = Duration::from_secs(6);
const PROFILE: Duration = Duration::from_millis(200);
/// A tier, the seconds of its models, and the predecessor's seconds for a whole run, cold and cached.
pub(super) const TIERS: [(&str, u64, u64, u64); 3] = [("light", 2, 6, 2), ("deep", 12, 18, 12), ("xray", 10, 16, 10)];
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

/// A state machine with the states of the analysis, whose functions do nothing.
pub(super) struct Empty {
    sfn: aws_sdk_sfn::Client,
    arn: String,
}

/// The function that does nothing. The role of the analysis may invoke functions whose names begin like its own.
const NOTHING: &str = "oslira-local-admit-nothing";

impl Empty {
    async fn new(stack: &Stack) -> Result<Self> {
        let config = stack.sdk_config();
        let (sfn, lambda) = (aws_sdk_sfn::Client::new(&config), aws_sdk_lambda::Client::new(&config));
        let described = sfn.describe_state_machine().state_machine_arn(stack.state_machine_arn()).send().await?;
        let name = format!("empty-{}", uuid::Uuid::new_v4().simple());
        let function = match lambda.get_function_configuration().function_name(NOTHING).send().await {
            Ok(found) => found.function_arn,
            Err(_) => nothing(stack, &lambda).await?,
        };
        let function = function.context("the function has no ARN")?;
        let mut definition: Value = serde_json::from_str(&described.definition)?;
        for state in definition["States"].as_object_mut().context("no states")?.values_mut() {
            if state["Type"] == "Task" {
                state["Resource"] = json!(function);
            }
        }
        let made = sfn.create_state_machine().name(name).role_arn(described.role_arn).definition(definition.to_string()).send().await?;
        Ok(Self { arn: made.state_machine_arn, sfn })
    }

    async fn run(&self) -> Result<Duration> {
        let begun = Instant::now();
        let input = json!({ "run": {} }).to_string();
        let started = self.sfn.start_execution().state_machine_arn(&self.arn).input(input).send().await?;
        succeeded(&self.sfn, &started.execution_arn).await?;
        Ok(begun.elapsed())
    }
}

/// Creates the function that does nothing, with the settings and the role of `admit`.
async fn nothing(stack: &Stack, lambda: &aws_sdk_lambda::Client) -> Result<Option<String>> {
    use aws_sdk_lambda::primitives::Blob;
    use aws_sdk_lambda::types::{FunctionCode, Runtime};
    let admit = lambda.get_function_configuration().function_name(&stack.functions()["admit"]).send().await?;
    let code = FunctionCode::builder().zip_file(Blob::new(super::functions::zipped(stack, super::functions::HELLO)?)).build();
    let made = lambda
        .create_function()
        .function_name(NOTHING)
        .runtime(Runtime::Providedal2023)
        .handler("bootstrap")
        .set_role(admit.role)
        .set_memory_size(admit.memory_size)
        .set_timeout(admit.timeout)
        .set_logging_config(admit.logging_config)
        .code(code)
        .send()
        .await?;
    Ok(made.function_arn)
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

/// The tasks of a LIGHT run.
const TASKS: [&str; 4] = ["admit", "fetch", "analyze", "save"];

/// Measures LIGHT runs whose vendors respond at once: their time, the time that their functions take, and the CPU that these use.
pub(super) async fn light(stack: &Stack, repeats: usize, report: &mut Report) {
    match light_runs(stack, repeats).await {
        Ok(rows) => rows.into_iter().for_each(|row| report.add(&row.what.clone(), Ok(row))),
        Err(error) => report.add("a LIGHT run", Err(error)),
    }
}

async fn light_runs(stack: &Stack, repeats: usize) -> Result<[Row; 3]> {
    let (empty, demo) = (Empty::new(stack).await?, stack.create_account(100).await?);
    // The first run starts the environments.
    tokio::try_join!(empty.run(), analysis(stack, &empty.sfn, &demo, ("bench.light.first", "light")))?;
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    let (since, before) = (jiff::Timestamp::now().as_millisecond(), cost::cpu(stack));
    for _ in 0..repeats {
        floors.push(empty.run().await?);
    }
    let (idle, between) = (cost::cpu_since(stack, &before), cost::cpu(stack));
    for round in 0..repeats {
        times.push(analysis(stack, &empty.sfn, &demo, (&format!("bench.light.{round}"), "light")).await?);
    }
    let used = cost::cpu_since(stack, &between);
    let count = u32::try_from(repeats)?;
    let own = in_functions(stack, TASKS.map(|task| stack.functions()[task].as_str()), since).await? / count;
    let floor = in_functions(stack, [NOTHING], since).await? / count;
    let same = "the same states with functions that do nothing";
    Ok([
        Row::times("a LIGHT run whose vendors respond at once", median(times), median(floors), same),
        Row::times("its tasks' own time", own, floor, "the same invocations of a function that does nothing"),
        Row::times("its functions' CPU", used / count, idle / count, same),
    ])
}

/// Returns the duration of all invocations of functions since a time, as Lambda would report it.
async fn in_functions<const N: usize>(stack: &Stack, names: [&str; N], since: i64) -> Result<Duration> {
    let mut sum = 0.0;
    for name in names {
        let lines = logs::lines(&stack.sdk_config(), Some(name), since).await?;
        sum += lines.iter().filter_map(|line| cost::report_of(&line.text)).map(|(ms, _)| ms).sum::<f64>();
    }
    ensure!(sum > 0.0, "no invocation of {names:?} is in the logs");
    Ok(Duration::from_secs_f64(sum / 1000.0))
}

/// The connections that a pooler allows a login of a small Supabase project, less a reserve.
const SLOTS: f64 = 150.0;

/// Measures a hundred LIGHT runs at once, first on environments that have to be started, then on those, and three hundred; and the database
/// connections that they leave.
pub(super) async fn crowds(stack: &Stack, report: &mut Report) {
    let empty = match Empty::new(stack).await {
        Ok(empty) => empty,
        Err(error) => return report.add("100 LIGHT runs at once", Err(error)),
    };
    for (name, size) in [("100 LIGHT runs at once, cold", 100), ("100 LIGHT runs at once, warm", 100), ("300 LIGHT runs at once", 300)] {
        let row = crowd(stack, &empty, name, size).await;
        report.add(name, row);
    }
    report.add("database connections left", connections(stack).await);
}

async fn crowd(stack: &Stack, empty: &Empty, name: &str, size: u32) -> Result<Row> {
    // An account may start a hundred analyses an hour.
    let demos = try_join_all((0..size.div_ceil(100)).map(|_| stack.create_account(100))).await?;
    let begun = Instant::now();
    try_join_all((0..size).map(|_| empty.run())).await?;
    let floor = begun.elapsed();
    let handles: Vec<String> = (0..size).map(|number| format!("bench.crowd.{}.{number}", rand::random::<u32>())).collect();
    let begun = Instant::now();
    let runs = handles.iter().enumerate().map(|(number, handle)| analysis(stack, &empty.sfn, &demos[number / 100], (handle, "light")));
    try_join_all(runs).await?;
    Ok(Row::times(name, begun.elapsed(), floor, format!("{size} executions whose functions do nothing")))
}

/// Counts the connections that are open while nothing runs.
async fn connections(stack: &Stack) -> Result<Row> {
    let (client, connection) = tokio_postgres::connect(&stack.info().admin_database_url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oslira'";
    let open: i64 = client.query_one(sql, &[]).await?.get(0);
    let open = f64::from(i32::try_from(open)?);
    Ok(Row::bounded("database connections left after 300 runs", open, SLOTS, "", "the upper bound: the slots of a small pooler"))
}

pub(super) async fn delay(stack: &Stack, text: &str, model: Duration) -> Result<()> {
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
    Ok(Row { what, measured: rate, floor, unit: "/s", beside, ratio: floor / rate, bounded: false })
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
