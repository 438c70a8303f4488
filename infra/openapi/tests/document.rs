//! The API's document: current, valid, and consistent with its examples.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;

use jsonschema::Draft;
use serde_json::{Map, Value, json};

const OPENAPI: &str = include_str!("oas/schema-2022-10-07.json");

fn committed() -> Value {
    serde_json::from_str(&fs::read_to_string(oslira_openapi::document_path()).unwrap()).unwrap()
}

/// Returns every operation with its route.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let methods = paths.flat_map(|(path, methods)| methods.as_object().unwrap().iter().map(move |entry| (path, entry)));
    methods.map(|(path, (method, operation))| (format!("{} {path}", method.to_uppercase()), operation)).collect()
}

/// Returns every response of an operation with its status.
fn responses<'a>(document: &'a Value, operation: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let resolved = |response: &'a Value| response["$ref"].as_str().map_or(response, |reference| document.pointer(&reference[1..]).unwrap());
    operation["responses"].as_object().unwrap().iter().map(|(status, response)| (&**status, resolved(response))).collect()
}

/// Returns a schema with the components that it refers to.
fn with_components(document: &Value, schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    schema
}

fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    let validator = options.build(&with_components(document, schema)).unwrap();
    validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}

/// Collects every value of a field `name` inside `value`.
fn under<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|field| under(field, name, found));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| under(entry, name, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_current() {
    let committed = fs::read_to_string(oslira_openapi::document_path()).unwrap();
    assert!(
        oslira_openapi::document().unwrap() == committed,
        "the API has changed: run `cargo openapi` and commit functions/operations/openapi.json"
    );
}

#[test]
fn the_document_is_valid_openapi() {
    let document = committed();
    let schema: Value = serde_json::from_str(OPENAPI).unwrap();
    let validator = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(&document).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // OpenAPI's schema does not cover the schemas in the document.
    let mut schemas: Vec<&Value> = document["components"]["schemas"].as_object().unwrap().values().collect();
    under(&document["paths"], "schema", &mut schemas);
    under(&document["components"]["responses"], "schema", &mut schemas);
    assert!(schemas.len() > 150, "{}", schemas.len());
    for schema in schemas {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{schema}");
    }
}

#[test]
fn every_reference_resolves_and_every_component_is_used() {
    let document = committed();
    let mut references = Vec::new();
    under(&document, "$ref", &mut references);
    let references: BTreeSet<&str> = references.into_iter().filter_map(Value::as_str).collect();
    assert!(references.iter().all(|reference| document.pointer(&reference[1..]).is_some()));
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(references.contains(format!("#/components/{kind}/{name}").as_str()), "{kind}/{name} is unused");
        }
    }
}

#[test]
fn every_operation_has_an_id_a_summary_and_its_responses() {
    let document = committed();
    let operations = operations(&document);
    let ids: BTreeSet<&str> = operations.iter().map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len());
    let tags: BTreeSet<&str> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (route, operation) in &operations {
        assert!(operation["summary"].as_str().unwrap().len() > 10, "{route}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{route}");
        let statuses: Vec<&str> = responses(&document, operation).iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses.iter().filter(|status| status.starts_with('2')).count(), 1, "{route}: {statuses:?}");
        if operation["security"] == json!([{ "token": [] }]) {
            assert!(["400", "401", "429", "500", "503"].iter().all(|status| statuses.contains(status)), "{route}: {statuses:?}");
        }
        // No response accepts an undocumented field.
        for (status, response) in responses(&document, operation) {
            if let Some(schema) = response.pointer("/content/application~1json/schema").filter(|_| *route != "GET /openapi.json") {
                let undocumented = json!({ "success": true, "data": {}, "meta": {}, "undocumented": 1 });
                assert!(!faults(&document, schema, &undocumented).is_empty(), "{route} {status}");
            }
        }
    }
}

#[test]
fn every_example_matches_its_schema() {
    let document = committed();
    let (mut requests, mut successes, mut refusals) = (0, 0, 0);
    for (route, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"];
        if let Some(example) = body.get("example") {
            assert_eq!(faults(&document, &body["schema"], example), Vec::<String>::new(), "{route}");
            requests += 1;
        }
        for (status, response) in responses(&document, operation) {
            let content = &response["content"]["application/json"];
            let recorded =
                content.get("examples").and_then(Value::as_object).into_iter().flat_map(Map::values).map(|example| &example["value"]);
            refusals += content.get("examples").map_or(0, |_| 1);
            successes += content.get("example").map_or(0, |_| 1);
            for example in content.get("example").into_iter().chain(recorded) {
                assert_eq!(faults(&document, &content["schema"], example), Vec::<String>::new(), "{route} {status}");
            }
        }
    }
    // Every endpoint that responds with the envelope has an example: all but `DELETE` and the document itself.
    assert_eq!(successes, operations(&document).len() - 2);
    assert!(requests >= 5 && refusals >= 30, "{requests} requests, {refusals} refusals");
}
