//! Reaching into the workflow: executions, single tasks, and their processes.

use std::time::Duration;

use aws_sdk_sfn::types::{ExecutionStatus, HistoryEventType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{World, until};

/// What a task answered: its output, or the name of its error.
pub type TaskOutcome = Result<Value, String>;

impl World {
    pub fn execution_arn(&self, run_id: &str) -> String {
        format!("{}:{run_id}", self.stack.state_machine_arn().replace(":stateMachine:", ":execution:"))
    }

    /// Waits until the execution has ended, whatever the database says.
    pub async fn execution_ended(&self, run_id: &str) -> ExecutionStatus {
        let arn = self.execution_arn(run_id);
        until(&format!("the end of execution {run_id}"), Duration::from_mins(2), || async {
            let execution = self.sfn.describe_execution().execution_arn(&arn).send().await.ok()?;
            Some(execution.status).filter(|status| *status != ExecutionStatus::Running)
        })
        .await
    }

    /// The names of the states that the execution entered, in order.
    pub async fn states_entered(&self, run_id: &str) -> Vec<String> {
        let arn = self.execution_arn(run_id);
        let history = self.sfn.get_execution_history().execution_arn(&arn).max_results(1000).send().await.expect("a history");
        let entered = history.events.into_iter().filter_map(|event| Some(event.state_entered_event_details?.name));
        entered.collect()
    }

    /// The inputs of the execution's tasks, by state, as they were scheduled.
    pub async fn task_inputs(&self, run_id: &str) -> Vec<(String, Value)> {
        let arn = self.execution_arn(run_id);
        let history = self.sfn.get_execution_history().execution_arn(&arn).max_results(1000).send().await.expect("a history");
        let entered = history.events.into_iter().filter(|event| event.r#type == HistoryEventType::TaskStateEntered);
        entered
            .filter_map(|event| {
                let details = event.state_entered_event_details?;
                Some((details.name, serde_json::from_str(&details.input?).ok()?))
            })
            .collect()
    }

    /// Invokes a task's Lambda directly, as a repeated delivery would.
    pub async fn invoke(&self, function: &str, input: &Value) -> TaskOutcome {
        self.invoke_function(&format!("oslira-local-{function}"), input).await
    }

    /// The same by the deployed function's full name.
    pub async fn invoke_function(&self, name: &str, input: &Value) -> TaskOutcome {
        let payload = aws_sdk_lambda::primitives::Blob::new(input.to_string());
        let answer = self.lambda.invoke().function_name(name).payload(payload).send().await.expect("the function runs");
        let body: Value = answer.payload.and_then(|blob| serde_json::from_slice(blob.as_ref()).ok()).unwrap_or(Value::Null);
        match answer.function_error {
            None => Ok(body),
            Some(_) => Err(body["errorType"].as_str().unwrap_or_default().to_owned()),
        }
    }

    /// Has the emulator collect the lines of `report_usage`: it takes them from an environment with that environment's next answer, so all
    /// that there may be are asked for one.
    pub async fn collect_reports(&self) {
        let dry_run = json!({ "dry_run": true });
        for outcome in futures::future::join_all((0..4).map(|_| self.invoke("report-usage", &dry_run))).await {
            outcome.expect("a dry run");
        }
    }

    /// The binary that a deployed function runs.
    pub fn binary_of(&self, function: &str) -> String {
        let found = self.stack.functions().iter().find(|(_, name)| *name == function);
        found.unwrap_or_else(|| panic!("no binary runs as {function}")).0.clone()
    }

    /// Kills every process of a function with SIGKILL and waits for their ends: until then the emulator would give them events. Answers how many.
    pub async fn kill_function(&self, binary: &str) -> usize {
        let pids = self.stack.function_pids(binary);
        let killed = pids.iter().filter(|pid| kill(Pid::from_raw(i32::try_from(**pid).expect("a pid")), Signal::SIGKILL).is_ok()).count();
        until("the end of what was killed", Duration::from_secs(20), || async {
            let left = self.stack.function_pids(binary);
            pids.iter().all(|pid| !left.contains(pid)).then_some(())
        })
        .await;
        killed
    }
}

impl World {
    /// Writes a run's first progress item, as the endpoint does before the execution starts.
    pub async fn put_progress(&self, run: &Value) {
        use aws_sdk_dynamodb::types::AttributeValue::{N, S};
        let text = |field: &str| S(run[field].as_str().expect("a text").to_owned());
        let now = jiff::Timestamp::now();
        self.dynamodb
            .put_item()
            .table_name(&self.stack.outputs()["ProgressTableName"])
            .item("run_id", text("run_id"))
            .item("run", S(run.to_string()))
            .item("account_id", text("account_id"))
            .item("status", S("pending".to_owned()))
            .item("percent", N("0".to_owned()))
            .item("step", S("generate_run_id".to_owned()))
            .item("updated_at_ms", N(now.as_millisecond().to_string()))
            .item("expires_at", N((now.as_second() + 3600).to_string()))
            .send()
            .await
            .expect("a progress item");
    }
}
