//! The catalog of API errors: the only place that states a code, and complete in the API's document.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oslira_http::errors;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the source files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns a file's source without its tests.
fn without_tests(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    if path.ends_with("tests.rs") { String::new() } else { text.split("#[cfg(test)]").next().unwrap_or_default().to_owned() }
}

/// Returns the code of a constant of the catalog.
fn code(constant: &str) -> &str {
    match constant {
        code if errors::CODES.contains(&code) => code,
        "READ_ONLY" | "NOT_A_MEMBER" => errors::FORBIDDEN.code(),
        name if name.ends_with("_NOT_FOUND") => errors::NOT_FOUND.code(),
        name => panic!("which code has errors::{name}?"),
    }
}

#[test]
fn only_the_catalog_states_a_code() {
    let features = fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let directories = features.filter(|path| path.is_dir()).chain([root().join("shared/http/src")]);
    for path in directories.flat_map(|directory| sources(&directory)) {
        let text = without_tests(&path);
        for code in errors::CODES {
            assert!(!text.contains(&format!("\"{code}\"")), "{} states {code}: use oslira_http::errors::{code}", path.display());
        }
    }
}

#[test]
fn every_error_that_a_handler_constructs_is_in_its_description() {
    let document: Value = serde_json::from_str(&fs::read_to_string(oslira_openapi::document_path()).unwrap()).unwrap();
    let features = fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let mut handlers = 0;
    for path in features.filter(|path| path.is_dir()).flat_map(|directory| sources(&directory)) {
        let text = without_tests(&path);
        let Some((_, attribute)) = text.split_once("#[endpoint(") else { continue };
        let (method, rest) = attribute.split_once(", \"").unwrap();
        let (route, _) = rest.split_once('"').unwrap();
        let responses = document["paths"][route][method.to_lowercase()]["responses"].as_object().unwrap();
        let resolved = responses
            .values()
            .map(|response| response["$ref"].as_str().map_or(response, |reference| document.pointer(&reference[1..]).unwrap()));
        let described: BTreeSet<String> = resolved.flat_map(codes).collect();
        let names = text.split("errors::").skip(1).map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_'));
        let constants = names.filter_map(|mut names| names.next()).filter(|name| !name.is_empty() && name.to_uppercase() == *name);
        for constant in constants {
            assert!(described.contains(code(constant)), "{method} {route} does not describe {constant}");
        }
        handlers += 1;
    }
    let operations = document["paths"].as_object().unwrap().values().map(|methods| methods.as_object().unwrap().len());
    assert_eq!(handlers, operations.sum::<usize>());
}

/// Returns the codes in the schema of an error response.
fn codes(response: &Value) -> Vec<String> {
    let schema = &response["content"]["application/json"]["schema"];
    let variants = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
    let name = |variant: &Value| variant["$ref"].as_str()?.strip_prefix("#/components/schemas/Problem.").map(ToOwned::to_owned);
    variants.iter().filter_map(name).map(|name| name.split('.').next().unwrap_or_default().to_owned()).collect()
}
