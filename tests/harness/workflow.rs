//! Executions of the state machine and their progress.

use std::time::Duration;

use aws_sdk_sfn::types::{ExecutionStatus, HistoryEventType};
use serde_json::Value;

use super::{World, until};

impl World {
    pub fn execution_arn(&self, run_id: &str) -> String {
        format!("{}:{run_id}", self.stack.state_machine_arn().replace(":stateMachine:", ":execution:"))
    }

    /// Waits until the execution has ended and returns its status.
    pub async fn execution_ended(&self, run_id: &str) -> ExecutionStatus {
        let arn = self.execution_arn(run_id);
        until(&format!("the end of execution {run_id}"), Duration::from_mins(2), || async {
            let execution = self.sfn.describe_execution().execution_arn(&arn).send().await.ok()?;
            Some(execution.status).filter(|status| *status != ExecutionStatus::Running)
        })
        .await
    }

    /// Returns the names of the states that the execution entered, in order.
    pub async fn states_entered(&self, run_id: &str) -> Vec<String> {
        let arn = self.execution_arn(run_id);
        let history = self.sfn.get_execution_history().execution_arn(&arn).max_results(1000).send().await.expect("a history");
        let entered = history.events.into_iter().filter_map(|event| Some(event.state_entered_event_details?.name));
        entered.collect()
    }

    /// Returns the inputs of the execution's tasks with their states, in order.
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
