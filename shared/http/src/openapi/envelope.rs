//! The response envelope as schemas.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::response::Refusal;
use crate::reply::{Meta, PagePosition};

/// Returns the schema of a success with `data`.
pub(super) fn success(data: &Value, generator: &mut SchemaGenerator) -> Value {
    let mut properties = json!({ "success": { "const": true }, "data": data });
    properties["meta"] = generator.subschema_for::<Meta>().to_value();
    closed_object(&properties)
}

/// Returns the schema of a success with a page of rows.
pub(super) fn page(rows: &Value, generator: &mut SchemaGenerator) -> Value {
    let mut properties = json!({ "success": { "const": true }, "data": rows });
    let position = PagePosition::json_schema(generator);
    for (name, schema) in position.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties[name] = schema.clone();
    }
    properties["meta"] = generator.subschema_for::<Meta>().to_value();
    closed_object(&properties)
}

/// Returns the schema of an error of one code.
pub(super) fn problem(refusal: &Refusal, generator: &mut SchemaGenerator) -> Value {
    let mut properties = json!({
        "success": { "const": false },
        "error": { "type": "string", "description": "A description of the error, for people." },
        "code": { "const": refusal.code, "description": refusal.meaning },
    });
    if let Some(details) = &refusal.details {
        properties["details"] = details.clone();
    }
    properties["meta"] = generator.subschema_for::<Meta>().to_value();
    closed_object(&properties)
}

/// Returns the schema of an object with all of these properties and no others.
fn closed_object(properties: &Value) -> Value {
    let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Closes every object schema: a response with an undocumented field does not match it.
pub(super) fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_object = fields.get("properties").is_some_and(Value::is_object) && fields.get("type").is_some();
            if is_object && !fields.contains_key("additionalProperties") && !fields.contains_key("unevaluatedProperties") {
                let composed = ["allOf", "anyOf", "oneOf", "$ref"].iter().any(|word| fields.contains_key(*word));
                fields.insert(if composed { "unevaluatedProperties" } else { "additionalProperties" }.to_owned(), Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(entries) => entries.iter_mut().for_each(close),
        _ => {}
    }
}

/// Adds the bounds of scores. The types do not have them: their schemas are sent to models too, and not every provider accepts bounds.
pub(super) fn bound_scores(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, property) in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
                let max = if name.ends_with("_score") { 100 } else { 1 };
                if let Some(property) = property.as_object_mut().filter(|_| name.ends_with("_score") || name == "confidence_level") {
                    property.extend([("minimum".to_owned(), json!(0)), ("maximum".to_owned(), json!(max))]);
                }
            }
            fields.values_mut().for_each(bound_scores);
        }
        Value::Array(entries) => entries.iter_mut().for_each(bound_scores),
        _ => {}
    }
}

/// Moves every response that several endpoints share to `components` and refers to it.
pub(super) fn share_responses(paths: &mut Value) -> Map<String, Value> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    each_response(paths, &mut |_, response| *counts.entry(response.to_string()).or_default() += 1);
    let (mut shared, mut names) = (Map::new(), BTreeMap::new());
    each_response(paths, &mut |status, response| {
        let text = response.to_string();
        if counts.get(&text).is_none_or(|count| *count < 2) {
            return;
        }
        let name = names.entry(text).or_insert_with(|| {
            let number = shared.keys().filter(|name| name.starts_with(status)).count() + 1;
            let name = format!("{status}.{number}");
            shared.insert(name.clone(), response.clone());
            name
        });
        *response = json!({ "$ref": format!("#/components/responses/{name}") });
    });
    shared
}

/// Calls `visit` with the status and the response, for every response of every endpoint.
fn each_response(paths: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    let methods = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = methods.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for responses in operations.filter_map(|operation| operation["responses"].as_object_mut()) {
        for (status, response) in responses {
            visit(status, response);
        }
    }
}

/// Returns the response headers, for `components`.
pub(super) fn headers() -> Value {
    let text = |description: &str, pattern: &str| json!({ "description": description, "schema": { "type": "string", "pattern": pattern } });
    let mut headers = json!({
        "X-Request-Id": text("The request's id, as in `meta.requestId`.", "^.+$"),
        "RateLimit": text("The limit's name, the remaining requests (`r`) and the seconds until the window ends (`t`).", "^\"[a-z_]+\";r=[0-9]+;t=[0-9]+$"),
        "RateLimit-Policy": text("The limit's name, the requests allowed (`q`) and the length of the window in seconds (`w`).", "^\"[a-z_]+\";q=[0-9]+;w=[0-9]+$"),
        "WWW-Authenticate": text("The authentication scheme that the endpoint requires.", "^Bearer$"),
    });
    headers["Retry-After"] =
        json!({ "description": "Seconds after which a retry makes sense.", "schema": { "type": "integer", "minimum": 0 } });
    headers["X-Request-Id"]["required"] = Value::Bool(true);
    headers["WWW-Authenticate"]["required"] = Value::Bool(true);
    headers
}
