//! Functions: invocations, processes and environment variables.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{World, until};

/// The outcome of an invocation: the output, or the name of the error.
pub type TaskOutcome = Result<Value, String>;

impl World {
    /// Invokes a function directly, as a repeated delivery would.
    pub async fn invoke(&self, function: &str, input: &Value) -> TaskOutcome {
        self.invoke_function(&format!("oslira-local-{function}"), input).await
    }

    /// Invokes a function by its full name.
    pub async fn invoke_function(&self, name: &str, input: &Value) -> TaskOutcome {
        self.invoke_task(name, input).await.map_err(|error| error["errorType"].as_str().unwrap_or_default().to_owned())
    }

    /// Invokes a function by its full name. The error is the payload, which the state machine gets as the cause.
    pub async fn invoke_task(&self, name: &str, input: &Value) -> Result<Value, Value> {
        let payload = aws_sdk_lambda::primitives::Blob::new(input.to_string());
        let answer = self.lambda.invoke().function_name(name).payload(payload).send().await.expect("the function runs");
        let body: Value = answer.payload.and_then(|blob| serde_json::from_slice(blob.as_ref()).ok()).unwrap_or(Value::Null);
        match answer.function_error {
            None => Ok(body),
            Some(_) => Err(body),
        }
    }

    /// Makes the emulator collect the log lines of `report_usage`. It reads an environment's lines with that environment's next response, so
    /// this invokes as many environments as there can be.
    pub async fn collect_reports(&self) {
        let dry_run = json!({ "dry_run": true });
        for outcome in futures::future::join_all((0..4).map(|_| self.invoke("report-usage", &dry_run))).await {
            outcome.expect("a dry run");
        }
    }

    /// Returns the binary of a deployed function.
    pub fn binary_of(&self, function: &str) -> String {
        let found = self.stack.functions().iter().find(|(_, name)| *name == function);
        found.unwrap_or_else(|| panic!("no binary runs as {function}")).0.clone()
    }

    /// Kills every process of a function with SIGKILL and returns their number. It waits for their ends, because until then the emulator sends
    /// them events.
    pub async fn kill_function(&self, binary: &str) -> usize {
        let pids = self.stack.function_pids(binary);
        let killed = pids.iter().filter(|pid| kill(Pid::from_raw(i32::try_from(**pid).expect("a pid")), Signal::SIGKILL).is_ok()).count();
        until("the end of the killed processes", Duration::from_secs(20), || async {
            pids.iter().all(|pid| local::has_ended(*pid)).then_some(())
        })
        .await;
        killed
    }

    /// Sets a variable of a function's environment and returns its previous value.
    pub async fn set_variable(&self, binary: &str, name: &str, value: &str) -> String {
        let function = &self.stack.functions()[binary];
        let now = self.lambda.get_function_configuration().function_name(function).send().await.expect("a function");
        let mut variables = now.environment.and_then(|environment| environment.variables).expect("variables");
        let before = variables.insert(name.to_owned(), value.to_owned()).expect("the variable was set");
        let environment = aws_sdk_lambda::types::Environment::builder().set_variables(Some(variables)).build();
        let request = self.lambda.update_function_configuration().function_name(function).environment(environment);
        request.send().await.expect("the function is set");
        before
    }
}
