//! Runs that lead through the states: what there is before, and what must be true at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;

use super::faults::{Fault, Invoker, VENDORS, Vendor};
use super::machine::{Machine, Task, Walk};
use crate::analysis::picture;
use crate::harness::{Account, Value, World, json};

pub const TIERS: [&str; 3] = ["light", "deep", "xray"];

/// What a run meets.
#[derive(Debug, Clone, Copy)]
pub enum Story {
    /// A profile that nobody asked for yet.
    Fresh,
    /// One that was analysed before.
    Cached,
    /// One that cannot be read.
    Private,
    /// No credits.
    Poor,
}

impl Story {
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Cached, Self::Private, Self::Poor];

    /// For every task the first story that reaches it.
    pub async fn of_every_task(world: &Arc<World>, machine: &Machine, tier: &str) -> Vec<(Task, Self)> {
        let mut found = BTreeMap::new();
        for story in Self::ALL {
            for visited in story.begin(world, tier).await.told(machine).await.walk.delivered {
                found.entry(visited.task).or_insert(story);
            }
        }
        let missing: Vec<_> = machine.tasks().into_iter().filter(|task| !found.contains_key(task)).collect();
        assert!(missing.is_empty(), "no story reaches {missing:?}: add one to tests/workflow/story.rs");
        found.into_iter().collect()
    }

    /// A run that may start, with an account and a handle of its own.
    pub async fn begin(self, world: &Arc<World>, tier: &str) -> Begun {
        let account = world.account(if matches!(self, Self::Poor) { 0 } else { 20 }).await;
        let handle = world.handle(if matches!(self, Self::Private) { "private" } else { "told" });
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
        let opening = account.balance().await;
        Begun { account, handle, run, opening }
    }
}

/// A run that was accepted, as the endpoint leaves it.
pub struct Begun {
    pub account: Account,
    pub handle: String,
    pub run: Value,
    opening: i32,
}

impl Begun {
    pub fn world(&self) -> &Arc<World> {
        &self.account.world
    }

    pub fn run_id(&self) -> &str {
        self.run["run_id"].as_str().unwrap()
    }

    /// Walks to the end with nothing in its way.
    pub async fn told(self, machine: &Machine) -> Told {
        let walk = machine.walk(self.input(), &Invoker::undisturbed(&self)).await;
        Told { begun: self, walk }
    }

    /// Walks to the end with `fault` at the task's first invocation.
    pub async fn told_with(self, machine: &Machine, task: &Task, fault: &Fault) -> Told {
        let invoker = Invoker::striking(&self, task, fault);
        let walk = machine.walk(self.input(), &invoker).await;
        assert!(invoker.has_struck(), "{task:?} was not reached");
        Told { begun: self, walk }
    }

    /// As the endpoint starts an execution.
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

    /// The same without the times at which a run that is under way was last seen to move.
    pub async fn picture_without_movement(&self) -> Value {
        let mut picture = self.picture().await;
        for run in picture["rows"]["runs"].as_array_mut().into_iter().flatten() {
            run["updated_at"].take();
            run["last_step_at"].take();
        }
        picture
    }
}

/// The vendors that a task calls, and those that it calls when these fail.
pub async fn vendors_of(world: &Arc<World>, machine: &Machine, task: &Task, story: Story, tier: &str) -> Vec<Vendor> {
    let mut found: Vec<Vendor> = Vec::new();
    loop {
        let failing: Vec<&'static str> = found.iter().map(|vendor| vendor.name).collect();
        let begun = story.begin(world, tier).await;
        for vendor in &failing {
            world.fault(vendor, &begun.handle, None, json!({ "kind": "disconnect" })).await;
        }
        let invoker = Invoker::watching(&begun, task);
        machine.walk(begun.input(), &invoker).await;
        let new: Vec<_> = invoker.called().into_iter().filter(|name| !failing.contains(name)).collect();
        if new.is_empty() {
            return found;
        }
        found.extend(new.into_iter().map(|name| Vendor { name, behind: failing.clone() }));
    }
}

/// A run that has ended, whatever happened to it.
pub struct Told {
    begun: Begun,
    pub walk: Walk,
}

impl Told {
    /// Asserts what must be true of every run that ended, by whatever way.
    pub async fn assert_settled(&self, what: &str) {
        let Begun { account, handle, opening, .. } = &self.begun;
        let (world, run_id) = (self.begun.world(), self.begun.run_id());
        let row = world.db.rows("SELECT status, credits_charged, error_code FROM analyses WHERE run_id = $1", &[&run_id]).await;
        let row = row.first().unwrap_or_else(|| panic!("{what}: no row"));
        let (status, charged, code): (String, i32, Option<String>) = (row.get(0), row.get(1), row.get(2));
        // Charged once, and given back once unless there is a result.
        let (paid, entries) = match (self.walk.end.as_str(), status.as_str(), charged) {
            ("Done", "completed", 1..) => (charged, vec![("analysis".to_owned(), -charged)]),
            ("Failed", "failed", 0) => (0, vec![]),
            ("Failed", "failed", _) => (0, vec![("analysis".to_owned(), -charged), ("refund".to_owned(), charged)]),
            other => panic!("{what}: {other:?} {code:?}"),
        };
        assert_eq!(account.entries(run_id).await, entries, "{what}");
        assert_eq!(account.balance().await, opening - paid, "{what}");
        assert_eq!(world.ledger_faults().await, Vec::<String>::new(), "{what}");
        self.assert_nothing_is_left_over(what, &status).await;
        // One lead a handle, and none without a result.
        let sql = "SELECT (SELECT count(*) FROM leads WHERE account_id = $1::text::uuid AND username = $2),
                          (SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid AND status = 'completed')";
        let row = &world.db.rows(sql, &[&account.id, handle]).await[0];
        let (leads, completed): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(leads, completed.min(1), "{what}");
    }

    /// No Actor run goes on, no progress is told that will never come, nothing waits in the database.
    async fn assert_nothing_is_left_over(&self, what: &str, status: &str) {
        let (world, run_id) = (self.begun.world(), self.begun.run_id());
        let table = &world.stack.outputs()["ProgressTableName"];
        let key = AttributeValue::S(run_id.to_owned());
        let item = world.dynamodb.get_item().table_name(table).key("run_id", key).consistent_read(true).send().await.unwrap();
        let shown = item.item.and_then(|item| item.get("status").and_then(|status| status.as_s().ok().cloned()));
        assert_eq!(shown.as_deref(), Some(status), "{what}: what clients watch");
        let sql = "SELECT count(*) FROM analyses WHERE account_id = $1::text::uuid AND status IN ('pending', 'processing')";
        assert_eq!(world.db.value::<i64>(sql, &[&self.begun.account.id]).await, Some(0), "{what}");
    }

    /// Delivers every task again, in order and in reverse, as late as can be: nothing changes.
    pub async fn assert_late_deliveries_change_nothing(&self) {
        let before = self.begun.picture().await;
        for late in self.walk.delivered.iter().chain(self.walk.delivered.iter().rev()) {
            // Some answer as before, some that the run has ended: both are right.
            let outcome = self.begun.world().invoke_function(&late.task.function, &late.input).await;
            assert_eq!(self.begun.picture().await, before, "{} came late: {outcome:?}", late.task.state);
        }
    }

    /// What was booked for the run is what vendors billed for its handle.
    pub async fn assert_costs_are_booked(&self, what: &str) {
        let sql = "SELECT coalesce(sum(cost_micro_usd), 0)::int8 FROM ai_usage_logs WHERE account_id = $1::text::uuid";
        let booked: Option<i64> = self.begun.world().db.value(sql, &[&self.begun.account.id]).await;
        assert_eq!(booked, Some(self.begun.world().bill(&self.begun.handle).await), "{what}");
    }
}
