use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

/// The states on the way of a run, in their order.
const TASKS: [&str; 4] = ["Admit", "Fetch", "Analyze", "Save"];

/// Every error that a task can end with, one for each name and code.
fn errors() -> Vec<TaskError> {
    let mut errors = vec![
        TaskError::Ended(RunStatus::Cancelled),
        TaskError::Ended(RunStatus::Completed),
        TaskError::Defect("malformed input: missing field `run`".to_owned()),
        TaskError::Database(DbError::Unauthorized),
        TaskError::Aws(AwsError::new("s3", "")),
        TaskError::Scrape("Instagram blocked the Actor".to_owned()),
        TaskError::ScrapeBusy(String::new()),
        TaskError::WithoutPosts,
        TaskError::Model,
    ];
    errors.extend(FailureCode::ALL.into_iter().map(TaskError::Terminal));
    errors
}

fn machine() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/analysis.asl.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn retriers(state: &Value) -> &Vec<Value> {
    state["Retry"].as_array().unwrap()
}

fn names(retrier: &Value) -> BTreeSet<&str> {
    retrier["ErrorEquals"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// The retrier that decides about an error.
fn retrier_of<'a>(state: &'a Value, name: &str) -> &'a Value {
    retriers(state).iter().find(|retrier| names(retrier).contains(name) || names(retrier).contains("States.ALL")).unwrap()
}

fn number(retrier: &Value, field: &str) -> u64 {
    retrier[field].as_u64().unwrap_or_else(|| panic!("{field} in {retrier}"))
}

/// The longest that a retrier's pauses take together, in seconds.
fn pauses(retrier: &Value) -> u64 {
    let attempts = number(retrier, "MaxAttempts");
    assert!(attempts == 0 || retrier["BackoffRate"] == json!(2.0), "{retrier}");
    (0..u32::try_from(attempts).unwrap())
        .map(|attempt| (number(retrier, "IntervalSeconds") * 2_u64.pow(attempt)).min(number(retrier, "MaxDelaySeconds")))
        .sum()
}

#[test]
fn the_code_of_every_error_is_read_back_from_its_cause() {
    for error in errors() {
        let (code, name, text) = (error.fails_with(), error.name(), error.to_string());
        let Diagnostic { error_type, error_message } = error.into();
        assert_eq!(error_type, name);
        // As Lambda writes it.
        let cause = json!({ "errorType": error_type, "errorMessage": error_message }).to_string();
        assert_eq!(failure_code(&error_type, Some(&cause)), code, "{cause}");
        assert!(error_message.ends_with(&text), "{error_message}");
    }
}

#[test]
fn timeouts_are_named_and_every_other_error_is_internal() {
    for name in ["States.Timeout", "Sandbox.Timedout"] {
        assert_eq!(failure_code(name, None), FailureCode::TimedOut);
    }
    let crashed = r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited with error: signal: killed"}"#;
    for (name, cause) in [
        ("Runtime.ExitError", Some(crashed)),
        ("Lambda.Unknown", Some("the cause could not be determined because Lambda did not return an error type")),
        ("Lambda.TooManyRequestsException", Some("Rate Exceeded.")),
        ("Terminal", Some("{}")),
        ("Terminal", None),
        ("", None),
    ] {
        assert_eq!(failure_code(name, cause), FailureCode::InternalError, "{name} {cause:?}");
    }
}

#[test]
fn apify_without_free_resources_is_busy_and_without_money_it_is_terminal() {
    let error = |error: VendorError| TaskError::from(error);
    assert!(matches!(error(VendorError::RateLimited { retry_after: None }), TaskError::ScrapeBusy(_)));
    assert!(matches!(error(VendorError::Overloaded(500)), TaskError::Scrape(_)));
    assert!(matches!(error(VendorError::QuotaExhausted(String::new())), TaskError::Terminal(FailureCode::ScrapeFailed)));
}

#[test]
fn a_full_database_is_retryable_and_a_broken_rule_is_not() {
    let full = TaskError::from(DbError::TooManyConnections(String::new()));
    assert_eq!((full.name(), full.is_terminal()), ("DatabaseUnavailable", false));
    let rule = TaskError::from(DbError::Rule { code: "23503".to_owned(), message: String::new() });
    assert_eq!((rule.name(), rule.is_terminal()), (TERMINAL, true));
}

#[test]
fn terminal_errors_are_never_retried() {
    let machine = machine();
    for (name, state) in machine["States"].as_object().unwrap().iter().filter(|(_, state)| state["Type"] == "Task") {
        assert_eq!(retriers(state)[0], json!({ "ErrorEquals": [TERMINAL], "MaxAttempts": 0 }), "{name}");
        assert_eq!(names(retriers(state).last().unwrap()), BTreeSet::from(["States.ALL"]), "{name}");
    }
    for error in errors() {
        assert_eq!(error.is_terminal(), number(retrier_of(&machine["States"]["Admit"], error.name()), "MaxAttempts") == 0, "{error}");
    }
}

#[test]
fn throttling_and_a_full_database_are_retried_for_minutes() {
    let machine = machine();
    let bursts = [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "DatabaseUnavailable",
    ];
    for state in TASKS.into_iter().chain(["Compensate"]) {
        for name in bursts {
            let retrier = retrier_of(&machine["States"][state], name);
            let limits = ["MaxAttempts", "MaxDelaySeconds"].map(|field| number(retrier, field));
            assert_eq!((limits, &retrier["JitterStrategy"]), ([15, 30], &json!("FULL")), "{state} {name}");
        }
    }
    let busy = retrier_of(&machine["States"]["Fetch"], "ScrapeBusy");
    assert_eq!((number(busy, "MaxAttempts"), number(busy, "MaxDelaySeconds")), (15, 30));
}

#[test]
fn what_may_cost_a_vendor_call_is_retried_seldom() {
    let machine = machine();
    for (state, own, attempts) in [("Fetch", "ScrapeFailed", 3), ("Analyze", "ModelUnavailable", 2)] {
        // Lambda reports an invocation that ran out of memory or time under different names.
        for name in [own, "States.Timeout", "Sandbox.Timedout", "Lambda.Unknown"] {
            assert_eq!(number(retrier_of(&machine["States"][state], name), "MaxAttempts"), attempts, "{state} {name}");
        }
    }
}

#[test]
fn an_execution_has_time_for_the_longest_retries_of_every_state() {
    /// The most that a statement waits for the database, in seconds.
    const STATEMENT: u64 = 22;
    let machine = machine();
    let longest = |state: &&str| {
        let state = &machine["States"][state];
        let task = state["TimeoutSeconds"].as_u64().unwrap();
        let retries = retriers(state).iter().map(|retrier| {
            // Throttling, a full database and a busy vendor end an attempt soon, other errors possibly at the end of the task's time.
            let attempt = if number(retrier, "MaxAttempts") == 15 { STATEMENT } else { task };
            pauses(retrier) + number(retrier, "MaxAttempts") * attempt
        });
        task + retries.max().unwrap()
    };
    let (longest, limit): (u64, _) = (TASKS.iter().map(longest).sum(), machine["TimeoutSeconds"].as_u64().unwrap());
    assert!(longest <= limit, "the longest retries take {longest} s, an execution may take {limit} s");
}
