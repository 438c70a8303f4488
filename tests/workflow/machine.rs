//! The state machine of `infra/analysis.asl.json`, walked by the test itself, state by state and invocation by invocation, so that any state's
//! task can be stopped, repeated or delayed. It knows what that file uses of the language, and rejects everything else.

use serde_json::Map;

use super::faults::Invoker;
use crate::harness::{Value, World, json};

/// The definition, with the functions of the deployed stack in the places of its variables.
pub struct Machine {
    definition: Value,
}

/// A state that runs a function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    pub state: String,
    /// The deployed function's name.
    pub function: String,
}

/// An invocation of a walk, with its input.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub task: Task,
    pub input: Value,
}

/// An execution of the definition.
#[derive(Debug)]
pub struct Walk {
    /// The state that ended it.
    pub end: String,
    pub deliveries: Vec<Delivery>,
}

/// The error of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    pub cause: String,
}

impl Machine {
    /// Returns the definition as it is deployed. It must have the states of the file.
    pub async fn deployed(world: &World) -> Self {
        let machine = world.sfn.describe_state_machine().state_machine_arn(world.stack.state_machine_arn()).send().await.unwrap();
        let definition: Value = serde_json::from_str(&machine.definition).unwrap();
        let file: Value = serde_json::from_str(include_str!("../../infra/analysis.asl.json")).unwrap();
        let states = |machine: &Value| {
            let states = machine["States"].as_object().expect("States");
            states.iter().map(|(name, state)| (name.clone(), state["Type"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(states(&definition), states(&file));
        Self { definition }
    }

    /// Returns every state that runs a function.
    pub fn tasks(&self) -> Vec<Task> {
        let states = self.definition["States"].as_object().expect("States").iter();
        let mut tasks: Vec<Task> = states
            .filter_map(|(name, state)| match state["Type"].as_str() {
                Some("Task") => Some(task(name, state)),
                Some("Fail") => None,
                other => panic!("{name} is of type {other:?}, which this harness does not know"),
            })
            .collect();
        tasks.sort();
        tasks
    }

    /// Walks from the first state to an end.
    pub async fn walk(&self, input: Value, invoker: &Invoker<'_>) -> Walk {
        let mut at = self.definition["StartAt"].as_str().expect("StartAt").to_owned();
        let (mut data, mut deliveries) = (input, Vec::new());
        loop {
            let state = &self.definition["States"][&at];
            match state["Type"].as_str() {
                Some("Fail") => return Walk { end: at, deliveries },
                Some("Task") => {}
                other => panic!("{at} is of type {other:?}, which this harness does not know"),
            }
            match deliver(&task(&at, state), state, &data, invoker, &mut deliveries).await {
                Ok(output) => {
                    data = placed(&at, state, data, output);
                    match state["Next"].as_str() {
                        Some(next) => next.clone_into(&mut at),
                        None if state["End"] == true => return Walk { end: at, deliveries },
                        None => panic!("{at} has no next state"),
                    }
                }
                Err(failure) => {
                    let catchers = state["Catch"].as_array().into_iter().flatten();
                    let Some(catcher) = catchers.into_iter().find(|catcher| matches(&catcher["ErrorEquals"], &failure.name)) else {
                        panic!("no state catches {failure:?} of {at}")
                    };
                    data = placed(&at, catcher, data, json!({ "Error": failure.name, "Cause": failure.cause }));
                    catcher["Next"].as_str().expect("Next").clone_into(&mut at);
                }
            }
        }
    }
}

fn task(name: &str, state: &Value) -> Task {
    let arn = state["Resource"].as_str().expect("Resource");
    let Some((_, function)) = arn.split_once(":function:") else { panic!("{name} runs {arn}, which is no function") };
    Task { state: name.to_owned(), function: function.to_owned() }
}

/// Invokes until the task succeeds or its retriers are exhausted. Pauses between attempts are left out.
async fn deliver(
    task: &Task,
    state: &Value,
    data: &Value,
    invoker: &Invoker<'_>,
    deliveries: &mut Vec<Delivery>,
) -> Result<Value, Failure> {
    let retriers = state["Retry"].as_array().cloned().unwrap_or_default();
    let mut attempts = vec![0; retriers.len()];
    deliveries.push(Delivery { task: task.clone(), input: input(task, state, data, 0) });
    loop {
        let failure = match invoker.invoke(task, &input(task, state, data, attempts.iter().sum())).await {
            Ok(output) => return Ok(output),
            Err(failure) => failure,
        };
        let Some(rule) = retriers.iter().position(|rule| matches(&rule["ErrorEquals"], &failure.name)) else { return Err(failure) };
        if attempts[rule] == retriers[rule]["MaxAttempts"].as_u64().expect("MaxAttempts") {
            return Err(failure);
        }
        attempts[rule] += 1;
    }
}

fn matches(names: &Value, error: &str) -> bool {
    names.as_array().expect("ErrorEquals").iter().any(|name| name == error || name == "States.ALL")
}

/// The input of an attempt: the state's data, or what its `Parameters` select.
fn input(task: &Task, state: &Value, data: &Value, retry_count: u64) -> Value {
    let Some(parameters) = state["Parameters"].as_object() else { return data.clone() };
    let selected = parameters.iter().map(|(name, path)| {
        let Some(name) = name.strip_suffix(".$") else { panic!("{} selects {name}, which this harness does not know", task.state) };
        let value = match path.as_str() {
            Some("$$.State.RetryCount") => json!(retry_count),
            Some(path) if path.starts_with("$.") => path.split('.').skip(1).fold(data, |value, name| &value[name]).clone(),
            _ => panic!("{} selects {path}, which this harness does not know", task.state),
        };
        (name.to_owned(), value)
    });
    Value::Object(selected.collect::<Map<_, _>>())
}

/// Returns the state's data with a result in the place that it names.
fn placed(at: &str, state: &Value, mut data: Value, result: Value) -> Value {
    match state["ResultPath"].as_str() {
        None => result,
        Some(path) => {
            let Some(name) = path.strip_prefix("$.").filter(|name| !name.contains('.')) else {
                panic!("{at} has the result path {path}, which this harness does not know")
            };
            data[name] = result;
            data
        }
    }
}
