//! Tasks of a state machine.

use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::invocation::{Event, Invocation};
use crate::{Diagnostic, Error, invocation_span};

/// Runs a task until the environment ends.
///
/// Its span has the fields `run_id`, `account_id` and `tier` of `run` in the input.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<D, O, E>(deps: D, task: impl AsyncFn(Event<Value>, &D) -> Result<O, E>) -> Result<(), Error>
where
    O: Serialize,
    E: Failure + Into<Diagnostic> + std::fmt::Debug,
{
    let (deps, task) = (&deps, &task);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| invoke(event, deps, task))).await
}

/// Runs one invocation of a task, as [`run`] does: for a function that has other triggers too.
///
/// # Errors
/// The task's own.
pub async fn invoke<D, O, E>(event: LambdaEvent<Value>, deps: &D, task: &impl AsyncFn(Event<Value>, &D) -> Result<O, E>) -> Result<O, E>
where
    E: Failure,
{
    let LambdaEvent { payload, context } = event;
    let invocation = Invocation::from(&context as &Context);
    let run = &payload["run"];
    let span = invocation_span!(
        "task",
        invocation,
        run_id = run["run_id"].as_str(),
        account_id = run["account_id"].as_str(),
        tier = run["tier"].as_str()
    );
    let deadline = invocation.deadline;
    // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
    invocation.run(span, &[], Box::pin(task(Event { payload, deadline }, deps))).await
}

/// Reads a task's input as `T`.
///
/// # Errors
/// Says what is malformed.
pub fn input<T: DeserializeOwned>(payload: Value) -> Result<T, String> {
    serde_json::from_value(payload).map_err(|error| format!("malformed input: {error}"))
}
