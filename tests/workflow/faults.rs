//! What happens to a task.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::RwLock;

use super::machine::{Failed, Task};
use super::story::Begun;
use crate::harness::{Value, World, json, until};

/// Who works for tasks.
pub const VENDORS: [&str; 3] = ["apify", "openai", "anthropic"];

/// A vendor of a task. Those that it stands behind must fail before it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    pub name: &'static str,
    pub behind: Vec<&'static str>,
}

/// What happens at a task's first invocation.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The first answer is lost and the task delivered again.
    Twice,
    /// It is delivered twice at the same time.
    AtOnce,
    /// Its process is killed before its first statement takes effect.
    KilledBefore,
    /// Its process is killed while the database works on its first statement, which takes effect.
    KilledWhile,
    /// Its process is killed when all is done, before it answers.
    KilledAfter,
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

/// Carries out a walk's tasks, and interferes with one of them.
pub struct Invoker<'a> {
    begun: &'a Begun,
    wanted: Option<(&'a Task, Option<&'a Fault>)>,
    struck: AtomicBool,
    /// A Map's items are worked for at the same time. One that looks at the run before and after has it for itself.
    alone: RwLock<()>,
    called: Mutex<BTreeSet<&'static str>>,
}

impl<'a> Invoker<'a> {
    pub fn undisturbed(begun: &'a Begun) -> Self {
        Self { begun, wanted: None, struck: AtomicBool::new(false), alone: RwLock::default(), called: Mutex::default() }
    }

    pub fn striking(begun: &'a Begun, task: &'a Task, fault: &'a Fault) -> Self {
        Self { wanted: Some((task, Some(fault))), ..Self::undisturbed(begun) }
    }

    /// Notes whom the task calls.
    pub fn watching(begun: &'a Begun, task: &'a Task) -> Self {
        Self { wanted: Some((task, None)), ..Self::undisturbed(begun) }
    }

    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    pub fn called(&self) -> Vec<&'static str> {
        self.called.lock().unwrap().iter().copied().collect()
    }

    pub async fn invoke(&self, task: &Task, input: &Value) -> Result<Value, Failed> {
        match self.wanted {
            Some((wanted, None)) if wanted == task => {
                let before = self.begun.calls_by_vendor().await;
                let outcome = self.plainly(task, input).await;
                let after = self.begun.calls_by_vendor().await;
                let called = (0..VENDORS.len()).filter(|vendor| after[*vendor] > before[*vendor]).map(|vendor| VENDORS[vendor]);
                self.called.lock().unwrap().extend(called);
                outcome
            }
            Some((wanted, Some(fault))) if wanted == task && !self.struck.swap(true, Ordering::SeqCst) => {
                self.strike(fault, task, input).await
            }
            _ => {
                let _meanwhile = self.alone.read().await;
                self.plainly(task, input).await
            }
        }
    }

    async fn plainly(&self, task: &Task, input: &Value) -> Result<Value, Failed> {
        self.world().invoke_function(&task.function, input).await
    }

    fn world(&self) -> &World {
        self.begun.world()
    }

    async fn strike(&self, fault: &Fault, task: &Task, input: &Value) -> Result<Value, Failed> {
        match fault {
            Fault::Twice => {
                let _alone = self.alone.write().await;
                let first = self.plainly(task, input).await;
                let before = self.begun.picture_without_movement().await;
                let second = self.plainly(task, input).await;
                // What failed in a way that may be tried again may do more this time.
                if first.is_ok() {
                    assert_eq!(self.begun.picture_without_movement().await, before, "{task:?} {second:?}");
                    assert!(second.is_ok(), "{task:?} {second:?}");
                }
                second
            }
            Fault::AtOnce => {
                let (one, two) = tokio::join!(self.plainly(task, input), self.plainly(task, input));
                one.or(two)
            }
            Fault::KilledBefore => self.killed_at_its_first_statement(task, input, true).await,
            Fault::KilledWhile => self.killed_at_its_first_statement(task, input, false).await,
            Fault::KilledAfter => {
                let outcome = self.plainly(task, input).await;
                self.kill(task).await;
                // What the state machine is told, in the place of the answer.
                outcome.and(Err("Lambda.Unknown".to_owned()))
            }
            Fault::KilledWhileVendorWorks(vendor) => self.killed_while_waiting_for(vendor, task, input).await,
        }
    }

    async fn kill(&self, task: &Task) {
        let binary = self.world().binary_of(&task.function);
        assert!(self.world().kill_function(&binary).await > 0, "{binary} was running");
    }

    /// Every task asks for its run, or for the account's balance, before it does anything else: both are locked meanwhile.
    async fn killed_at_its_first_statement(&self, task: &Task, input: &Value, end_statement: bool) -> Result<Value, Failed> {
        let _alone = self.alone.write().await;
        let (world, before) = (self.world(), self.begun.picture().await);
        let holder = world.db.connect().await;
        let lock = format!(
            "BEGIN; SELECT 1 FROM analyses WHERE run_id = '{}' FOR UPDATE; SELECT 1 FROM credit_balances WHERE account_id = '{}' FOR UPDATE",
            self.begun.run_id(),
            self.begun.account.id
        );
        holder.batch_execute(&lock).await.unwrap();
        let holding: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let interfere = async {
            let sql = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
            let waiting = async || world.db.value::<i32>(sql, &[&holding]).await;
            let what = format!("a statement of {} that waits for its run", task.state);
            until(&what, Duration::from_secs(30), waiting).await;
            self.kill(task).await;
            if end_statement {
                world.db.rows(&format!("SELECT pg_terminate_backend(pid) FROM ({sql}) waiting"), &[&holding]).await;
            }
            assert_eq!(self.begun.picture().await, before, "{task:?} did something before it asked for its run");
            holder.batch_execute("COMMIT").await.unwrap();
        };
        let (outcome, ()) = tokio::join!(self.plainly(task, input), interfere);
        outcome
    }

    async fn killed_while_waiting_for(&self, vendor: &Vendor, task: &Task, input: &Value) -> Result<Value, Failed> {
        const SLOW_MS: u64 = 1500;
        let (world, handle) = (self.world(), &self.begun.handle);
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
            let asked = async || (world.calls(vendor.name, handle).await.len() > before).then_some(());
            until(&format!("{} is asked", vendor.name), Duration::from_secs(30), asked).await;
            self.kill(task).await;
            slow(0).await;
        };
        let (outcome, ()) = tokio::join!(self.plainly(task, input), interfere);
        outcome
    }
}
