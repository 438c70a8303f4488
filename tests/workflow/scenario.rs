//! Runs that lead through the states: what exists before them, and what must be true at their end.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use oslira_domain::Tier;

use super::faults::{Fault, Invoker, VENDORS, Vendor};
use super::machine::{Machine, Task, Walk};
use crate::analysis::picture;
use crate::harness::{Account, Value, World, json};

/// What a run meets.
#[derive(Debug, Clone, Copy)]
pub enum Scenario {
    /// A profile that is not cached.
    Fresh,
    /// A profile that was analyzed before.
    Cached,
    /// A profile that cannot be read.
    Private,
    /// An account without credits.
    NoCredits,
}

impl Scenario {
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Cached, Self::Private, Self::NoCredits];

    /// Returns every task with the first scenario that reaches it.
    pub async fn of_every_task(world: &Arc<World>, machine: &Machine, tier: Tier) -> Vec<(Task, Self)> {
        let mut found = BTreeMap::new();
        for scenario in Self::ALL {
            for delivery in scenario.start(world, tier).await.walk(machine).await.walk.deliveries {
                found.entry(delivery.task).or_insert(scenario);
            }
        }
        let missing: Vec<_> = machine.tasks().into_iter().filter(|task| !found.contains_key(task)).collect();
        assert!(missing.is_empty(), "no scenario reaches {missing:?}: add one to tests/workflow/scenario.rs");
        found.into_iter().collect()
    }

    /// Accepts a run, with an account and a handle of its own.
    pub async fn start(self, world: &Arc<World>, tier: Tier) -> StartedRun {
        let account = world.account(if matches!(self, Self::NoCredits) { 0 } else { 20 }).await;
        let handle = world.handle(if matches!(self, Self::Private) { "private" } else { "walked" });
        if matches!(self, Self::Cached) {
            let earlier = account.run(&handle, "xray").await;
            assert_eq!(earlier.status(), "completed", "{}", earlier.progress);
            world.execution_ended(&earlier.run_id).await;
        }
        let run = json!({
            "run_id": format!("run_{}", uuid::Uuid::now_v7().simple()), "account_id": account.id,
            "business_profile_id": account.business_profile_id, "requested_by": account.owner().await, "username": handle, "tier": tier,
            "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        world.put_progress(&run).await;
        let opening_balance = account.balance().await;
        StartedRun { account, handle, tier, run, opening_balance }
    }
}

/// A run that was accepted, as the endpoint leaves it.
pub struct StartedRun {
    pub account: Account,
    pub handle: String,
    pub tier: Tier,
    pub run: Value,
    opening_balance: i32,
}

impl StartedRun {
    pub fn world(&self) -> &Arc<World> {
        &self.account.world
    }

    pub fn run_id(&self) -> &str {
        self.run["run_id"].as_str().unwrap()
    }

    /// Walks to the end without a fault.
    pub async fn walk(self, machine: &Machine) -> EndedRun {
        let walk = machine.walk(self.input(), &Invoker::without_faults(&self)).await;
        EndedRun { started: self, walk }
    }

    /// Walks to the end with `fault` at the task's first invocation.
    pub async fn walk_with(self, machine: &Machine, task: &Task, fault: &Fault) -> EndedRun {
        let invoker = Invoker::with_fault(&self, task, fault);
        let walk = machine.walk(self.input(), &invoker).await;
        assert!(invoker.has_caused_fault(), "{task:?} was not reached");
        EndedRun { started: self, walk }
    }

    /// The input of the execution, as the endpoint starts it.
    fn input(&self) -> Value {
        json!({ "run": self.run, "steps": [] })
    }

    pub async fn calls_by_vendor(&self) -> [usize; VENDORS.len()] {
        let mut counts = [0; VENDORS.len()];
        for (count, vendor) in counts.iter_mut().zip(VENDORS) {
            *count = self.world().calls(vendor, &self.handle).await.len();
        }
        counts
    }

    /// Everything that a repeat could change.
    pub async fn picture(&self) -> Value {
        picture(&self.account, &self.handle).await
    }

    /// The same without the times at which a live run last moved.
    pub async fn picture_without_movement(&self) -> Value {
        let mut picture = self.picture().await;
        for run in picture["rows"]["runs"].as_array_mut().into_iter().flatten() {
            run["updated_at"].take();
            run["last_step_at"].take();
        }
        picture
    }
}

/// Returns the vendors that a task calls, and those that it calls when these fail.
pub async fn vendors_of(world: &Arc<World>, machine: &Machine, task: &Task, scenario: Scenario, tier: Tier) -> Vec<Vendor> {
    let mut found: Vec<Vendor> = Vec::new();
    loop {
        let failing: Vec<&'static str> = found.iter().map(|vendor| vendor.name).collect();
        let started = scenario.start(world, tier).await;
        for vendor in &failing {
            world.fault(vendor, &started.handle, None, json!({ "kind": "disconnect" })).await;
        }
        let invoker = Invoker::watching(&started, task);
        machine.walk(started.input(), &invoker).await;
        let new: Vec<_> = invoker.called().into_iter().filter(|name| !failing.contains(name)).collect();
        if new.is_empty() {
            return found;
        }
        found.extend(new.into_iter().map(|name| Vendor { name, behind: failing.clone() }));
    }
}

/// A run whose walk has ended.
pub struct EndedRun {
    started: StartedRun,
    pub walk: Walk,
}

impl EndedRun {
    /// Asserts what must be true of every run that ended, in whatever way.
    pub async fn assert_settled(&self, what: &str) {
        let StartedRun { account, handle, opening_balance, .. } = &self.started;
        let (world, run_id) = (self.started.world(), self.started.run_id());
        let row = world.db.rows("SELECT status, credits_charged, error_code FROM analyses WHERE run_id = $1", &[&run_id]).await;
        let row = row.first().unwrap_or_else(|| panic!("{what}: no row"));
        let (status, charged, code): (String, i32, Option<String>) = (row.get(0), row.get(1), row.get(2));
        // Charged once, and refunded once unless there is a result.
        let (paid, entries) = match (self.walk.end.as_str(), status.as_str(), charged) {
            ("Save", "completed", 1..) => (charged, vec![("analysis".to_owned(), -charged)]),
            ("Failed", "failed", 0) => (0, vec![]),
            ("Failed", "failed", _) => (0, vec![("analysis".to_owned(), -charged), ("refund".to_owned(), charged)]),
            other => panic!("{what}: {other:?} {code:?}"),
        };
        assert_eq!(account.entries(run_id).await, entries, "{what}");
        assert_eq!(account.balance().await, opening_balance - paid, "{what}");
        assert_eq!(world.ledger_faults().await, Vec::<String>::new(), "{what}");
        self.assert_nothing_is_left_over(what, &status).await;
        // One lead for each handle, and none without a result.
        let sql = "SELECT (SELECT count(*) FROM leads WHERE account_id = $1::text::uuid AND username = $2),
                          (SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid AND status = 'completed')";
        let row = &world.db.rows(sql, &[&account.id, handle]).await[0];
        let (leads, completed): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(leads, completed.min(1), "{what}");
    }

    /// No Actor run goes on, the progress item has ended too, no run is live in the database.
    async fn assert_nothing_is_left_over(&self, what: &str, status: &str) {
        let (world, run_id) = (self.started.world(), self.started.run_id());
        let table = &world.stack.outputs()["ProgressTableName"];
        let key = AttributeValue::S(run_id.to_owned());
        let item = world.dynamodb.get_item().table_name(table).key("run_id", key).consistent_read(true).send().await.unwrap();
        let progress = item.item.and_then(|item| item.get("status").and_then(|status| status.as_s().ok().cloned()));
        assert_eq!(progress.as_deref(), Some(status), "{what}: the progress item");
        let sql = "SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid AND status IN ('pending', 'processing')";
        assert_eq!(world.db.value::<i64>(sql, &[&self.started.account.id]).await, Some(0), "{what}");
    }

    /// Delivers every task again after the end, in order and in reverse, and asserts that nothing changes.
    pub async fn assert_late_deliveries_change_nothing(&self) {
        let before = self.started.picture().await;
        for late in self.walk.deliveries.iter().chain(self.walk.deliveries.iter().rev()) {
            // Some return what they returned before, some that the run has ended: both are right.
            let outcome = self.started.world().invoke_task(&late.task.function, &late.input).await;
            assert_eq!(self.started.picture().await, before, "{} came late: {outcome:?}", late.task.state);
        }
    }

    /// Asserts that the costs recorded for the run are what vendors billed for its handle.
    pub async fn assert_costs_are_recorded(&self, what: &str) {
        let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE account_id = $1::text::uuid";
        let recorded: Option<i64> = self.started.world().db.value(sql, &[&self.started.account.id]).await;
        assert_eq!(recorded, Some(self.started.world().bill(&self.started.handle).await), "{what}");
    }

    /// Asserts, of a run whose `Analyze` was killed when one question was answered, that only the others were asked twice.
    pub async fn assert_only_open_questions_are_asked_again(&self, what: &str) {
        let (world, questions) = (self.started.world(), self.started.tier.calls().len());
        let calls = [world.calls("openai", &self.started.handle).await.len(), world.calls("anthropic", &self.started.handle).await.len()];
        assert_eq!(calls, [questions + questions - 1, 0], "{what}");
        let sql = "SELECT count(*), count(DISTINCT api_call_type) FROM ai_usage_logs
                   WHERE run_id = $1 AND provider = 'openai' AND status = 'success'";
        let row = &world.db.rows(sql, &[&self.started.run_id()]).await[0];
        let paid = i64::try_from(questions).unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (paid, paid), "{what}");
    }
}
