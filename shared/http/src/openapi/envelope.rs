//! The form that every answer has, as schemas.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::operation::{Refusal, Success};
use crate::reply::{Meta, Place};

/// A success with `data`: the envelope around it, and for a list where the page stands.
pub(super) fn success(success: &Success, generator: &mut SchemaGenerator) -> Value {
    let mut properties = json!({ "success": { "const": true }, "data": success.data });
    if success.is_page {
        let place = Place::json_schema(generator);
        for (name, schema) in place.get("properties").and_then(Value::as_object).into_iter().flatten() {
            properties[name] = schema.clone();
        }
    }
    properties["meta"] = generator.subschema_for::<Meta>().to_value();
    all_of_these(&properties)
}

/// An error of one code.
pub(super) fn problem(refusal: &Refusal, generator: &mut SchemaGenerator) -> Value {
    let mut properties = json!({
        "success": { "const": false },
        "error": { "type": "string", "description": "What went wrong, for people." },
        "code": { "const": refusal.code, "description": refusal.meaning },
    });
    if let Some(details) = &refusal.details {
        properties["details"] = details.clone();
    }
    properties["meta"] = generator.subschema_for::<Meta>().to_value();
    all_of_these(&properties)
}

fn all_of_these(properties: &Value) -> Value {
    let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// Says of every object that it has no other fields than those which are named: a field that nobody documented is a fault.
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

/// Says how far scores go. The types themselves do not: models are asked by them too, and not every provider takes bounds in a schema.
pub(super) fn bound_scores(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, property) in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
                let most = if name.ends_with("_score") { 100 } else { 1 };
                if let Some(property) = property.as_object_mut().filter(|_| name.ends_with("_score") || name == "confidence_level") {
                    property.extend([("minimum".to_owned(), json!(0)), ("maximum".to_owned(), json!(most))]);
                }
            }
            fields.values_mut().for_each(bound_scores);
        }
        Value::Array(entries) => entries.iter_mut().for_each(bound_scores),
        _ => {}
    }
}

/// Moves every answer that several endpoints give word for word to where all of them can refer to it.
pub(super) fn share_responses(paths: &mut Value) -> Map<String, Value> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    each_response(paths, &mut |_, response| *times.entry(response.to_string()).or_default() += 1);
    let (mut shared, mut names) = (Map::new(), BTreeMap::new());
    each_response(paths, &mut |status, response| {
        let text = response.to_string();
        if times.get(&text).is_none_or(|times| *times < 2) {
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

/// Shows every answer of every endpoint, with its status.
fn each_response(paths: &mut Value, see: &mut impl FnMut(&str, &mut Value)) {
    let methods = paths.as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = methods.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for responses in operations.filter_map(|operation| operation["responses"].as_object_mut()) {
        for (status, response) in responses {
            see(status, response);
        }
    }
}

/// The headers of answers, for `components`.
pub(super) fn headers() -> Value {
    let text = |description: &str, pattern: &str| json!({ "description": description, "schema": { "type": "string", "pattern": pattern } });
    let mut headers = json!({
        "X-Request-Id": text("The id of the request, as in `meta.requestId`.", "^.+$"),
        "RateLimit": text("Where the caller stands: the limit's name, what remains (`r`) and the seconds until it begins anew (`t`).", "^\"[a-z_]+\";r=[0-9]+;t=[0-9]+$"),
        "RateLimit-Policy": text("The limit's name, how many (`q`) and in how many seconds (`w`).", "^\"[a-z_]+\";q=[0-9]+;w=[0-9]+$"),
        "WWW-Authenticate": text("What the request lacks.", "^Bearer$"),
    });
    headers["Retry-After"] =
        json!({ "description": "Seconds after which another try makes sense.", "schema": { "type": "integer", "minimum": 0 } });
    headers["X-Request-Id"]["required"] = Value::Bool(true);
    headers["WWW-Authenticate"]["required"] = Value::Bool(true);
    headers
}
