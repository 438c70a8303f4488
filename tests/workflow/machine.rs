//! The state machine of `infra/analysis.asl.json`, walked by the test itself, state by state and invocation by invocation: so any state's
//! task can be stopped, repeated or delayed at will. It knows what that file uses of the language, and refuses what it does not know.

use std::sync::Mutex;

use futures::future::BoxFuture;
use serde_json::Map;

use super::faults::Invoker;
use crate::harness::{Value, World, json};

/// What the definition says, with the functions of the deployed stack in the places of its variables.
pub struct Machine {
    definition: Value,
}

/// A state that runs a function, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    pub state: String,
    /// Whether it runs once for each item of a Map, which are other items in each tier.
    pub mapped: bool,
    /// The deployed function's name.
    pub function: String,
}

/// An invocation that a walk made, with its input: what a late delivery would bring again.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub task: Task,
    pub input: Value,
}

/// How a walk ended.
#[derive(Debug)]
pub struct Walk {
    /// The state that ended it.
    pub end: String,
    pub delivered: Vec<Delivered>,
}

/// The error of a task or a walk: its name.
pub type Failed = String;

impl Machine {
    /// The definition as it is deployed; it must have the states of the file.
    pub async fn deployed(world: &World) -> Self {
        let machine = world.sfn.describe_state_machine().state_machine_arn(world.stack.state_machine_arn()).send().await.unwrap();
        let definition: Value = serde_json::from_str(&machine.definition).unwrap();
        let file: Value = serde_json::from_str(include_str!("../../infra/analysis.asl.json")).unwrap();
        assert_eq!(states_of(&definition).collect::<Vec<_>>(), states_of(&file).collect::<Vec<_>>());
        Self { definition }
    }

    /// Every state that runs a function, inside of Maps too.
    pub fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        collect(&self.definition, false, &mut tasks);
        tasks.sort();
        tasks
    }

    /// Walks from the first state to an end.
    pub async fn walk(&self, input: Value, invoker: &Invoker<'_>) -> Walk {
        let delivered = Mutex::default();
        let end = walk(&self.definition, input, invoker, false, &delivered).await;
        let end = match end {
            Ok((state, _)) => state,
            Err(error) => panic!("an error that no state catches: {error}"),
        };
        Walk { end, delivered: delivered.into_inner().unwrap() }
    }
}

fn states_of(machine: &Value) -> impl Iterator<Item = (&String, &Value)> {
    machine["States"].as_object().expect("States").iter().map(|(name, state)| (name, &state["Type"]))
}

fn collect(machine: &Value, mapped: bool, tasks: &mut Vec<Task>) {
    for (name, state) in machine["States"].as_object().expect("States") {
        match state["Type"].as_str() {
            Some("Task") => tasks.push(task(name, state, mapped)),
            Some("Map") => collect(&state["ItemProcessor"], true, tasks),
            Some("Choice" | "Succeed" | "Fail") => {}
            other => panic!("{name} is of type {other:?}, which this harness does not know"),
        }
    }
}

fn task(name: &str, state: &Value, mapped: bool) -> Task {
    let arn = state["Resource"].as_str().expect("Resource");
    let Some((_, function)) = arn.split_once(":function:") else { panic!("{name} runs {arn}, which is no function") };
    Task { state: name.to_owned(), mapped, function: function.to_owned() }
}

/// The state that ends, with its input, or the error that nobody caught.
fn walk<'a>(
    machine: &'a Value,
    data: Value,
    invoker: &'a Invoker<'a>,
    mapped: bool,
    delivered: &'a Mutex<Vec<Delivered>>,
) -> BoxFuture<'a, Result<(String, Value), Failed>> {
    Box::pin(steps(machine, data, invoker, mapped, delivered))
}

async fn steps(
    machine: &Value,
    mut data: Value,
    invoker: &Invoker<'_>,
    mapped: bool,
    delivered: &Mutex<Vec<Delivered>>,
) -> Result<(String, Value), Failed> {
    let mut at = machine["StartAt"].as_str().expect("StartAt").to_owned();
    loop {
        let state = &machine["States"][&at];
        let result = match state["Type"].as_str() {
            Some("Succeed" | "Fail") => return Ok((at, data)),
            Some("Choice") => {
                at = choose(&at, state, &data);
                continue;
            }
            Some("Task") => {
                let task = task(&at, state, mapped);
                deliver(&task, state, &data, invoker, delivered).await
            }
            Some("Map") => {
                let items = read(&data, state["ItemsPath"].as_str().expect("ItemsPath")).as_array().expect("items").clone();
                let walks = items.into_iter().map(|item| {
                    let input = select(&at, &state["ItemSelector"], &data, &item);
                    walk(&state["ItemProcessor"], input, invoker, true, delivered)
                });
                futures::future::try_join_all(walks).await.map(|ends| ends.into_iter().map(|(_, output)| output).collect())
            }
            other => panic!("{at} is of type {other:?}, which this harness does not know"),
        };
        match result {
            Ok(output) => {
                data = placed(&at, state, data, output);
                match state["Next"].as_str() {
                    Some(next) => next.clone_into(&mut at),
                    None if state["End"] == true => return Ok((at, data)),
                    None => panic!("{at} leads nowhere"),
                }
            }
            Err(error) => {
                let catcher = state["Catch"].as_array().into_iter().flatten().find(|catcher| matches(&catcher["ErrorEquals"], &error));
                let Some(catcher) = catcher else { return Err(error) };
                data = placed(&at, catcher, data, json!({ "Error": error, "Cause": "told by the harness" }));
                catcher["Next"].as_str().expect("Next").clone_into(&mut at);
            }
        }
    }
}

/// Invokes until it succeeds or the state's own rules give up. Waits between attempts are left out.
async fn deliver(
    task: &Task,
    state: &Value,
    input: &Value,
    invoker: &Invoker<'_>,
    delivered: &Mutex<Vec<Delivered>>,
) -> Result<Value, Failed> {
    delivered.lock().unwrap().push(Delivered { task: task.clone(), input: input.clone() });
    let retriers = state["Retry"].as_array().cloned().unwrap_or_default();
    let mut attempts = vec![0; retriers.len()];
    loop {
        let error = match invoker.invoke(task, input).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let Some(rule) = retriers.iter().position(|rule| matches(&rule["ErrorEquals"], &error)) else { return Err(error) };
        attempts[rule] += 1;
        if attempts[rule] > retriers[rule]["MaxAttempts"].as_u64().expect("MaxAttempts") {
            return Err(error);
        }
    }
}

fn matches(names: &Value, error: &str) -> bool {
    names.as_array().expect("ErrorEquals").iter().any(|name| name == error || name == "States.ALL")
}

fn choose(at: &str, state: &Value, data: &Value) -> String {
    for choice in state["Choices"].as_array().expect("Choices") {
        let Some(wanted) = choice["BooleanEquals"].as_bool() else { panic!("{at} has a choice that this harness does not know: {choice}") };
        if read(data, choice["Variable"].as_str().expect("Variable")).as_bool() == Some(wanted) {
            return choice["Next"].as_str().expect("Next").to_owned();
        }
    }
    state["Default"].as_str().expect("Default").to_owned()
}

/// What `$.a.b` names.
fn read<'a>(data: &'a Value, path: &str) -> &'a Value {
    let Some(path) = path.strip_prefix('$') else { panic!("{path} is no path") };
    path.split('.').skip(1).fold(data, |value, name| &value[name])
}

fn select(at: &str, selector: &Value, data: &Value, item: &Value) -> Value {
    let selected = selector.as_object().expect("ItemSelector").iter().map(|(name, path)| {
        let Some(name) = name.strip_suffix(".$") else { panic!("{at} selects {name}, which this harness does not know") };
        let value = match path.as_str() {
            Some("$$.Map.Item.Value") => item.clone(),
            Some(path) => read(data, path).clone(),
            None => panic!("{at} selects {path}"),
        };
        (name.to_owned(), value)
    });
    Value::Object(selected.collect::<Map<_, _>>())
}

/// The state's input with its result in the place that it names.
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
