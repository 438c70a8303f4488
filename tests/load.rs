//! Many runs at once: on one balance, on one handle, and behind a pooler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslira_domain::Tier;

use crate::harness::{Account, Value, World, json, stack_test, until};
use crate::pooler::{Limits, Pooler};

/// Returns how a request or its run ended: `completed`, or a code.
async fn outcome(account: &Account, handle: &str) -> String {
    let answer = account.retried_while_unavailable(|| account.analyze(handle, "light")).await;
    if answer.status != 202 {
        return answer.body["code"].as_str().unwrap_or_default().to_owned();
    }
    let run_id = answer.data(202)["run_id"].as_str().unwrap().to_owned();
    let ended = account.ended(&run_id).await;
    if ended.status() == "failed" { ended.error_code().to_owned() } else { ended.status().to_owned() }
}

fn count(outcomes: Vec<String>) -> BTreeMap<String, usize> {
    outcomes.into_iter().fold(BTreeMap::new(), |mut counts, outcome| {
        *counts.entry(outcome).or_default() += 1;
        counts
    })
}

#[stack_test(alone)]
async fn a_hundred_analyses_on_sixty_credits(world: Arc<World>) {
    let account = world.account(60).await;
    let handles: Vec<String> = (0..100).map(|_| world.handle("crowd")).collect();
    let started = Instant::now();
    let outcomes = futures::future::join_all(handles.iter().map(|handle| outcome(&account, handle))).await;
    println!("100 LIGHT analyses at once: {:?}", started.elapsed());
    assert_eq!(count(outcomes), BTreeMap::from([("completed".to_owned(), 60), ("INSUFFICIENT_CREDITS".to_owned(), 40)]));
    assert_eq!(account.balance().await, 0);
    let sql = "SELECT count(*) FROM credit_ledger WHERE account_id = $1::text::uuid AND transaction_type = $2";
    for (kind, expected) in [("analysis", 60), ("refund", 0)] {
        assert_eq!(world.db.value::<i64>(sql, &[&account.id, &kind]).await, Some(expected), "{kind}");
    }
    // No environment of a task keeps a connection. The last ones may be closing.
    until("closed connections", Duration::from_secs(20), || async { (world.admin_backends().await <= 5).then_some(()) }).await;
}

#[stack_test(alone)]
async fn fifty_analyses_of_one_handle(world: Arc<World>) {
    let account = world.account(60).await;
    let handle = world.handle("popular");
    // Slow enough that the first is still running when the last arrives.
    world.slow_scrape(&handle, 15_000).await;
    let outcomes = futures::future::join_all((0..50).map(|_| outcome(&account, &handle))).await;
    assert_eq!(count(outcomes), BTreeMap::from([("completed".to_owned(), 1), ("DUPLICATE_ANALYSIS".to_owned(), 49)]));
    assert_eq!(account.balance().await, 59);
    // A run that was refused by its admission names the live run.
    let sql = "SELECT error_details FROM analyses WHERE account_id = $1::text::uuid AND error_code = 'DUPLICATE_ANALYSIS'";
    let winner: Option<String> =
        world.db.value("SELECT run_id FROM analyses WHERE account_id = $1::text::uuid AND status = 'completed'", &[&account.id]).await;
    for row in world.db.rows(sql, &[&account.id]).await {
        assert_eq!(row.get::<_, Value>(0), json!({ "run_id": winner }));
    }
}

/// The secret of the admin login.
const ADMIN: &str = "oslira/local/database-admin";
/// The functions that use it on the way of a run.
const TASKS: [&str; 5] = ["admit", "fetch", "analyze", "save", "compensate"];

impl World {
    /// Puts a URL into the admin login's secret. The tasks' processes, which keep the old one, are ended.
    async fn put_admin_url(&self, url: &str) {
        let secret = json!({ "url": url }).to_string();
        self.secrets.put_secret_value().secret_id(ADMIN).secret_string(secret).send().await.unwrap();
        for task in TASKS {
            self.kill_function(task).await;
        }
    }

    /// The admin login's connections to the database.
    async fn admin_backends(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'oslira_admin' AND backend_type = 'client backend'";
        self.db.value(sql, &[]).await.unwrap()
    }

    /// Starts the execution of a run, as the endpoint does, and returns the run's id.
    async fn start_execution(&self, account: &Account, owner: &str, tier: Tier) -> String {
        let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
        let run = json!({
            "run_id": run_id, "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": owner,
            "username": self.handle("pooled"), "tier": tier, "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        let input = json!({ "run": run, "steps": [] }).to_string();
        let started = self.sfn.start_execution().state_machine_arn(self.stack.state_machine_arn()).name(&run_id).input(input).send().await;
        started.unwrap();
        run_id
    }
}

/// A pooler has a few hundred slots for each login, and an environment that is frozen with an open connection keeps its slot. The tasks' login
/// has 150 here, fewer than there are runs.
#[stack_test(alone)]
async fn two_hundred_analyses_behind_a_pooler_with_150_slots(world: Arc<World>) {
    let secret = world.secrets.get_secret_value().secret_id(ADMIN).send().await.unwrap();
    let secret: Value = serde_json::from_str(secret.secret_string().unwrap()).unwrap();
    let direct = secret["url"].as_str().unwrap();
    let pooler = Pooler::start(&[direct], &Limits { clients: 150, servers: 20 }).await;
    let account = world.account(600).await;
    let owner = account.owner().await;
    world.put_admin_url(&pooler.url(direct, None)).await;

    let started = Instant::now();
    let tiers = [Tier::Light, Tier::Xray].into_iter().cycle().take(200);
    let run_ids = futures::future::join_all(tiers.map(|tier| world.start_execution(&account, &owner, tier))).await;
    let sql = "SELECT jsonb_object_agg(status, runs) FROM (
                   SELECT status, count(*) AS runs FROM analyses WHERE account_id = $1::text::uuid GROUP BY status) counts";
    let ended = until("the ends of 200 runs", Duration::from_mins(5), || async {
        let counts: Value = world.db.value::<Value>(sql, &[&account.id]).await?;
        let live = ["pending", "processing"].iter().any(|status| counts.get(status).is_some());
        let all: i64 = counts.as_object()?.values().filter_map(Value::as_i64).sum();
        (!live && all == 200).then_some(counts)
    })
    .await;
    println!("100 LIGHT and 100 XRAY analyses at once behind a pooler: {:?}", started.elapsed());
    assert_eq!(ended, json!({ "completed": 200 }));
    assert_eq!(account.balance().await, 0);
    for run_id in &run_ids {
        world.execution_ended(run_id).await;
    }
    // Every task has closed its connection: no client is left, though its environments are still warm.
    assert!(world.stack.function_pids("save").len() > 1, "warm environments");
    let console = crate::harness::connect(&pooler.url(direct, Some("pgbouncer"))).await.unwrap();
    let clients = console.simple_query("SHOW CLIENTS").await.unwrap();
    let rows = clients
        .iter()
        .filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(row) if row.get("database") != Some("pgbouncer")));
    let (clients, backends) = (rows.count(), world.admin_backends().await);
    println!("left afterwards: {clients} clients of the pooler, {backends} connections of it to the database");
    assert!(clients <= 5 && backends <= 20, "{clients} {backends}");
    drop(console);
    world.put_admin_url(direct).await;
    // Hundreds of environments end now, which keeps the emulator busy for a while.
    until("an idle emulator", Duration::from_mins(2), || async {
        let asked = Instant::now();
        world.secrets.get_secret_value().secret_id(ADMIN).send().await.ok()?;
        (asked.elapsed() < Duration::from_millis(100)).then_some(())
    })
    .await;
}
