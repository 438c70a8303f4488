//! Faults at a task, and the invoker that causes them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::machine::{Failure, Task};
use super::scenario::StartedRun;
use crate::harness::{Value, World, json, until};

/// The vendors of tasks.
pub const VENDORS: [&str; 3] = ["apify", "openai", "anthropic"];

const PATIENCE: Duration = Duration::from_secs(30);

/// A vendor of a task. Those that it stands behind must fail before it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    pub name: &'static str,
    pub behind: Vec<&'static str>,
}

impl Vendor {
    /// Whether it answers questions.
    pub fn is_model(&self) -> bool {
        self.name != "apify"
    }
}

/// What happens at a task's first invocation.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The first response is lost and the task delivered again.
    Twice,
    /// It is delivered twice at the same time.
    AtOnce,
    /// Its process is killed before its first statement takes effect.
    KilledBefore,
    /// Its process is killed while the database runs its first statement, which takes effect.
    KilledWhile,
    /// Its process is killed when its work is done, before it responds.
    KilledAfter,
    /// Its process is killed when one of its questions is answered and recorded, and the others are still open.
    KilledBetweenAnswers,
    /// Its process is killed while a vendor works for it.
    KilledWhileVendorWorks(Vendor),
}

/// The ways in which a vendor can fail.
pub fn of_vendor(vendor: &str) -> Vec<Value> {
    let status = |status: u16| json!({ "kind": "status", "status": status });
    let kind = |kind: &str| json!({ "kind": kind });
    let mut faults = vec![status(500), status(503), status(429), status(400), kind("disconnect"), kind("truncated_json")];
    let own: &[&str] = match vendor {
        "apify" => &["run_failed", "run_timed_out", "run_aborted", "empty_dataset", "blocked"],
        _ => &["refusal", "max_tokens", "schema_violation", "not_json", "empty"],
    };
    faults.extend(own.iter().map(|name| kind(name)));
    faults
}

/// Invokes the tasks of a walk, and causes a fault at one of them.
pub struct Invoker<'a> {
    started: &'a StartedRun,
    target: Option<(&'a Task, Option<&'a Fault>)>,
    is_done: AtomicBool,
    called: Mutex<BTreeSet<&'static str>>,
}

impl<'a> Invoker<'a> {
    pub fn without_faults(started: &'a StartedRun) -> Self {
        Self { started, target: None, is_done: AtomicBool::new(false), called: Mutex::default() }
    }

    pub fn with_fault(started: &'a StartedRun, task: &'a Task, fault: &'a Fault) -> Self {
        Self { target: Some((task, Some(fault))), ..Self::without_faults(started) }
    }

    /// Notes the vendors that the task calls.
    pub fn watching(started: &'a StartedRun, task: &'a Task) -> Self {
        Self { target: Some((task, None)), ..Self::without_faults(started) }
    }

    /// Whether the fault happened.
    pub fn has_caused_fault(&self) -> bool {
        self.is_done.load(Ordering::SeqCst)
    }

    pub fn called(&self) -> Vec<&'static str> {
        self.called.lock().unwrap().iter().copied().collect()
    }

    pub async fn invoke(&self, task: &Task, input: &Value) -> Result<Value, Failure> {
        match self.target {
            Some((target, None)) if target == task => {
                let before = self.started.calls_by_vendor().await;
                let outcome = self.deliver(task, input).await;
                let after = self.started.calls_by_vendor().await;
                let called = (0..VENDORS.len()).filter(|vendor| after[*vendor] > before[*vendor]).map(|vendor| VENDORS[vendor]);
                self.called.lock().unwrap().extend(called);
                outcome
            }
            Some((target, Some(fault))) if target == task && !self.is_done.swap(true, Ordering::SeqCst) => {
                self.deliver_with(fault, task, input).await
            }
            _ => self.deliver(task, input).await,
        }
    }

    async fn deliver(&self, task: &Task, input: &Value) -> Result<Value, Failure> {
        let outcome = self.world().invoke_task(&task.function, input).await;
        outcome.map_err(|body| Failure { name: body["errorType"].as_str().unwrap_or_default().to_owned(), cause: body.to_string() })
    }

    fn world(&self) -> &World {
        self.started.world()
    }

    async fn deliver_with(&self, fault: &Fault, task: &Task, input: &Value) -> Result<Value, Failure> {
        match fault {
            Fault::Twice => {
                let first = self.deliver(task, input).await;
                let before = self.started.picture_without_movement().await;
                let second = self.deliver(task, input).await;
                // A task that failed with a retryable error may do more this time.
                if first.is_ok() {
                    assert_eq!(self.started.picture_without_movement().await, before, "{task:?} {second:?}");
                    assert!(second.is_ok(), "{task:?} {second:?}");
                }
                second
            }
            Fault::AtOnce => {
                let (one, two) = tokio::join!(self.deliver(task, input), self.deliver(task, input));
                one.or(two)
            }
            Fault::KilledBefore => self.killed_at_its_first_statement(task, input, true).await,
            Fault::KilledWhile => self.killed_at_its_first_statement(task, input, false).await,
            Fault::KilledAfter => {
                let outcome = self.deliver(task, input).await;
                self.kill(task).await;
                // The state machine gets this error in the place of the response.
                outcome.and(Err(Failure { name: "Lambda.Unknown".to_owned(), cause: "killed".to_owned() }))
            }
            Fault::KilledBetweenAnswers => self.killed_between_answers(task, input).await,
            Fault::KilledWhileVendorWorks(vendor) => self.killed_while_waiting_for(vendor, task, input).await,
        }
    }

    async fn kill(&self, task: &Task) {
        let binary = self.world().binary_of(&task.function);
        assert!(self.world().kill_function(&binary).await > 0, "{binary} was running");
    }

    /// Every task reads its run, or the account's balance, before it does anything else: both are locked meanwhile.
    async fn killed_at_its_first_statement(&self, task: &Task, input: &Value, end_statement: bool) -> Result<Value, Failure> {
        let (world, before) = (self.world(), self.started.picture().await);
        let holder = world.db.connect().await;
        let lock = format!(
            "BEGIN; SELECT 1 FROM analyses WHERE run_id = '{}' FOR UPDATE; SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE",
            self.started.run_id(),
            self.started.account.id
        );
        holder.batch_execute(&lock).await.unwrap();
        let holding: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let interfere = async {
            let sql = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
            let waiting = async || world.db.value::<i32>(sql, &[&holding]).await;
            until(&format!("a statement of {} that waits for its run", task.state), PATIENCE, waiting).await;
            self.kill(task).await;
            if end_statement {
                world.db.rows(&format!("SELECT pg_terminate_backend(pid) FROM ({sql}) waiting"), &[&holding]).await;
            }
            assert_eq!(self.started.picture().await, before, "{task:?} changed something before it read its run");
            holder.batch_execute("COMMIT").await.unwrap();
        };
        let (outcome, ()) = tokio::join!(self.deliver(task, input), interfere);
        outcome
    }

    async fn killed_between_answers(&self, task: &Task, input: &Value) -> Result<Value, Failure> {
        let (world, handle) = (self.world(), &self.started.handle);
        // All questions but one stay without an answer.
        let hanging = u32::try_from(self.started.tier.calls().len() - 1).unwrap();
        world.fault("openai", handle, Some(hanging), json!({ "kind": "hang", "seconds": 60 })).await;
        let interfere = async {
            let sql = "SELECT 1 FROM analyses WHERE run_id = $1 AND ai_answers <> '{}'";
            let recorded = async || world.db.value::<i32>(sql, &[&self.started.run_id()]).await;
            until("a recorded answer", PATIENCE, recorded).await;
            self.kill(task).await;
        };
        let (outcome, ()) = tokio::join!(self.deliver(task, input), interfere);
        outcome
    }

    async fn killed_while_waiting_for(&self, vendor: &Vendor, task: &Task, input: &Value) -> Result<Value, Failure> {
        const SLOW_MS: u64 = 1500;
        let (world, handle) = (self.world(), &self.started.handle);
        for failing in &vendor.behind {
            world.fault(failing, handle, None, json!({ "kind": "disconnect" })).await;
        }
        let slow = async |ms: u64| match vendor.name {
            "apify" => world.slow_scrape(handle, ms).await,
            model => world.slow_model(model, handle, ms).await,
        };
        slow(SLOW_MS).await;
        let before = world.calls(vendor.name, handle).await.len();
        let interfere = async {
            let called = async || (world.calls(vendor.name, handle).await.len() > before).then_some(());
            until(&format!("a call of {}", vendor.name), PATIENCE, called).await;
            self.kill(task).await;
            slow(0).await;
        };
        let (outcome, ()) = tokio::join!(self.deliver(task, input), interfere);
        outcome
    }
}
