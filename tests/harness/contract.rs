//! The API's document as a contract: every response in a test must conform to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::Answer;

/// The document that the deployed function serves.
const DOCUMENT: &str = include_str!("../../functions/operations/openapi.json");

/// The headers that a response may have only if the document describes them.
const DOCUMENTED_HEADERS: [&str; 7] =
    ["RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate", "X-Request-Id", "ETag", "Cache-Control"];

/// The document and the responses that are recorded for its examples.
pub struct Contract {
    document: Value,
    operations: Vec<Operation>,
    /// The recorded responses by route and kind, if the environment names a file for them.
    examples: Option<Mutex<Value>>,
}

struct Operation {
    route: String,
    method: String,
    /// The segments of the path, `None` for a parameter.
    path: Vec<Option<String>>,
    responses: BTreeMap<u16, Expected>,
    limits: Vec<String>,
}

/// The response that the document describes for a status.
struct Expected {
    response: Value,
    validator: OnceLock<Validator>,
}

impl Contract {
    pub fn new() -> Self {
        let document: Value = serde_json::from_str(DOCUMENT).expect("the document is JSON");
        let paths = document["paths"].as_object().expect("paths");
        let routes = paths.iter().flat_map(|(path, methods)| methods.as_object().into_iter().flatten().map(move |entry| (path, entry)));
        let operations = routes.map(|(path, (method, operation))| Operation::new(&document, path, method, operation)).collect();
        let examples = examples_path().map(|path| {
            let known = std::fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok());
            Mutex::new(known.unwrap_or_else(|| json!({})))
        });
        Self { document, operations, examples }
    }

    /// Returns `METHOD /path` of every endpoint in the document.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().map(|operation| &*operation.route)
    }

    /// Fails the test unless a response conforms to the document. Responses to preflights, and those for a function that was killed, are API
    /// Gateway's own and not in the document.
    pub fn check(&self, method: &str, path: &str, request: &Value, answer: &Answer) {
        if method == "OPTIONS" || answer.status == 502 {
            return;
        }
        let operation = self.operation(method, path).unwrap_or_else(|| panic!("{method} {path} is not in the API's document"));
        let (route, status) = (&operation.route, answer.status);
        let expected = operation.responses.get(&status).unwrap_or_else(|| panic!("{route} does not document {status}: {}", answer.body));
        self.check_headers(operation, expected, answer);
        match &expected.response["content"]["application/json"]["schema"] {
            Value::Null => assert_eq!(answer.body, json!(""), "the document describes {route} {status} without a body"),
            schema => {
                assert_eq!(answer.header("content-type"), Some("application/json"), "{route} {status}");
                let validator = expected.validator.get_or_init(|| self.validator(schema));
                let faults: Vec<String> =
                    validator.iter_errors(&answer.body).map(|fault| format!("{}: {fault}", fault.instance_path())).take(5).collect();
                assert!(faults.is_empty(), "{route} {status} does not conform to the document:\n{}\n{}", faults.join("\n"), answer.body);
            }
        }
        self.record(operation, request, answer);
    }

    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |operation: &&Operation| {
            let same = |(known, given): (&Option<String>, &&str)| known.as_ref().is_none_or(|known| known == given);
            operation.method == method && operation.path.len() == segments.len() && operation.path.iter().zip(&segments).all(same)
        };
        self.operations.iter().filter(fits).max_by_key(|operation| operation.path.iter().flatten().count())
    }

    fn check_headers(&self, operation: &Operation, expected: &Expected, answer: &Answer) {
        let place = format!("{} {}", operation.route, answer.status);
        let headers = expected.response["headers"].as_object().cloned().unwrap_or_default();
        for name in DOCUMENTED_HEADERS {
            let header = headers.get(name).map(|header| self.resolved(header));
            let given = answer.header(name);
            match (header, given) {
                (None, Some(given)) if name != "Cache-Control" => panic!("{place}: {name}: {given} is not in the document"),
                (Some(header), None) => assert!(header["required"] != true, "{place}: {name} is missing"),
                (Some(header), Some(given)) => {
                    let number = given.parse::<u64>().ok().filter(|_| header["schema"]["type"] == "integer");
                    let given = number.map_or_else(|| json!(given), |number| json!(number));
                    assert!(jsonschema::is_valid(&header["schema"], &given), "{place}: {name}: {given}");
                }
                (None, _) => {}
            }
        }
        if let Some(policy) = answer.header("RateLimit-Policy") {
            assert!(
                operation.limits.iter().any(|limit| policy.starts_with(limit)),
                "{place}: {policy} is not one of {:?}",
                operation.limits
            );
        }
        assert!(answer.status != 429 || answer.header("Retry-After").is_some(), "{place}: Retry-After is missing");
    }

    /// Returns an object, or the one that it refers to.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        resolved(&self.document, value)
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
        options.build(&schema).expect("a schema")
    }

    /// Records the first response of each kind, and replaces an empty list by one with entries.
    fn record(&self, operation: &Operation, request: &Value, answer: &Answer) {
        let Some(examples) = &self.examples else { return };
        if !answer.body.is_object() || operation.route == "GET /openapi.json" {
            return;
        }
        let code = answer.body["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
        let kind = format!("{}{code}", answer.status);
        let mut examples = examples.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut examples[&operation.route];
        let is_empty = |answer: &Value| answer.is_null() || answer["data"].as_array().is_some_and(Vec::is_empty);
        if is_empty(&known[&kind]) {
            known[&kind] = answer.body.clone();
            if code.is_empty() && request.is_object() {
                known["request"] = request.clone();
            }
        }
    }

    /// Writes the recorded responses to their file, sorted.
    pub fn write_examples(&self) {
        let (Some(path), Some(examples)) = (examples_path(), &self.examples) else { return };
        let examples = examples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sorted: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_value(examples).expect("objects");
        std::fs::write(path, serde_json::to_string_pretty(&sorted).expect("JSON") + "\n").expect("the examples are written");
    }
}

impl Operation {
    fn new(document: &Value, path: &str, method: &str, operation: &Value) -> Self {
        let method = method.to_uppercase();
        let segment = |part: &str| (!part.starts_with('{')).then(|| part.to_owned());
        let answer = |(status, response): (&String, &Value)| {
            let expected = Expected { response: resolved(document, response).clone(), validator: OnceLock::new() };
            (status.parse().expect("a status"), expected)
        };
        let limits = operation["x-rate-limits"].as_array().into_iter().flatten();
        Self {
            route: format!("{method} {path}"),
            method,
            path: path.split('/').map(segment).collect(),
            responses: operation["responses"].as_object().map(Map::iter).into_iter().flatten().map(answer).collect(),
            limits: limits.map(|limit| format!("{};q={};w={}", limit["name"], limit["count"], limit["seconds"])).collect(),
        }
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| document.pointer(&reference[1..]).expect("the reference exists"))
}

/// Returns the file in which responses are recorded for `cargo openapi`.
fn examples_path() -> Option<PathBuf> {
    std::env::var_os("OSLIRA_RECORD_EXAMPLES").map(PathBuf::from)
}
