//! Rules and errors that both endpoints share.

use std::time::Duration;

use axum::response::Response;
use serde_json::{Value, json};

use crate::bill::{Model, OPENAI, find};
use crate::models::{Refusal, Rules, check_schema};
use crate::wire;

/// The largest limit of output tokens of all models here.
const LARGEST_OUTPUT: i64 = 128_000;

/// Writes an error in OpenAI's format.
pub(super) fn error(refusal: &Refusal) -> Response {
    let (kind, code) = match refusal.status {
        400 | 404 | 413 | 415 => ("invalid_request_error", None),
        401 => ("invalid_request_error", Some("invalid_api_key")),
        429 => ("rate_limit_exceeded", Some("rate_limit_exceeded")),
        503 | 529 => ("service_unavailable_error", Some("server_is_overloaded")),
        _ => ("server_error", None),
    };
    // The type identifies an exhausted quota; the code names the limit.
    let kind = refusal.kind.as_deref().unwrap_or(kind);
    let code = refusal.code.as_deref().or(if kind == "insufficient_quota" { Some("credit_balance_exhausted") } else { code });
    let (kind, code) = match code {
        Some("insufficient_quota") => ("insufficient_quota", Some("insufficient_quota")),
        Some(
            code @ ("credit_balance_exhausted"
            | "organization_spend_limit_exceeded"
            | "project_spend_limit_exceeded"
            | "organization_usage_limit_exceeded"),
        ) => ("insufficient_quota", Some(code)),
        code => (kind, code),
    };
    let mut response =
        wire::json(refusal.status, &json!({"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}}));
    if let Some(seconds) = refusal.retry_after {
        wire::set(&mut response, "retry-after", &seconds.to_string());
    }
    response
}

/// Adds the headers that every response has.
pub(super) fn add_headers(response: &mut Response, took: Duration) {
    for (name, value) in [
        ("x-request-id", format!("req_{}", wire::id(32)).as_str()),
        ("openai-organization", "sandbox"),
        ("openai-processing-ms", took.as_millis().to_string().as_str()),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-tokens", "1995000"),
        ("x-ratelimit-reset-tokens", "12ms"),
    ] {
        wire::set(response, name, value);
    }
}

/// Returns the model that a request names.
pub(super) fn model(request: &Value) -> Result<(&'static Model, String), Refusal> {
    let Some(name) = request["model"].as_str() else {
        return Err(Refusal::invalid("Missing required parameter: 'model'.", Some("model"), Some("missing_required_parameter")));
    };
    match find(OPENAI, name) {
        Some(model) => Ok((model, name.to_owned())),
        None => Err(Refusal {
            status: 404,
            message: format!("The model `{name}` does not exist or you do not have access to it."),
            code: Some("model_not_found".to_owned()),
            ..Refusal::default()
        }),
    }
}

/// Rejects parameters that the endpoint does not have.
pub(super) fn known(request: &Value, parameters: &[&str]) -> Result<(), Refusal> {
    let unknown = request.as_object().and_then(|object| object.keys().find(|name| !parameters.contains(&name.as_str())));
    match unknown {
        None => Ok(()),
        Some(name) => Err(Refusal::invalid(format!("Unknown parameter: '{name}'."), Some(name), Some("unknown_parameter"))),
    }
}

/// Rejects parameters that no model here supports.
pub(super) fn unsupported(request: &Value) -> Result<(), Refusal> {
    if request["stream"] == true {
        return Err(Refusal::invalid("The sandbox does not stream.", Some("stream"), Some("unsupported_value")));
    }
    match ["temperature", "top_p"]
        .into_iter()
        .find(|name| request.get(name).is_some_and(|value| !value.is_null() && value != &json!(1) && value != &json!(1.0)))
    {
        None => Ok(()),
        Some(name) => {
            let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
            Err(Refusal::invalid(message, Some(name), Some("unsupported_parameter")))
        }
    }
}

/// Returns the reasoning effort, `medium` if absent. Older and newer models accept different values.
pub(super) fn effort(model: &Model, effort: &Value, param: &str) -> Result<String, Refusal> {
    let is_old = matches!(model.name, "gpt-5" | "gpt-5-mini" | "gpt-5-nano");
    let accepted: &[&str] = if is_old { &["minimal", "low", "medium", "high"] } else { &["none", "low", "medium", "high", "xhigh", "max"] };
    match effort {
        Value::Null => Ok("medium".to_owned()),
        Value::String(effort) if accepted.contains(&effort.as_str()) => Ok(effort.clone()),
        other => {
            let supported: Vec<String> = accepted.iter().map(|effort| format!("'{effort}'")).collect();
            let message = format!(
                "Unsupported value: {other} is not supported with the '{}' model. Supported values are: {}.",
                model.name,
                supported.join(", ")
            );
            Err(Refusal::invalid(message, Some(param), Some("unsupported_value")))
        }
    }
}

/// Returns the limit of output tokens, at least 16.
pub(super) fn budget(value: &Value, param: &str) -> Result<i64, Refusal> {
    if value.is_null() {
        return Ok(LARGEST_OUTPUT);
    }
    if !value.is_number() {
        return Err(Refusal::invalid(format!("Invalid type for '{param}': expected an integer."), Some(param), Some("invalid_type")));
    }
    value.as_i64().filter(|budget| (16..=LARGEST_OUTPUT).contains(budget)).ok_or_else(|| {
        let message = format!("Invalid '{param}': integer out of range. Expected a value from 16 to {LARGEST_OUTPUT}, but got {value}.");
        Refusal::invalid(message, Some(param), Some("integer_below_min_value"))
    })
}

/// Checks the schema of a `json_schema` format and returns it with its title.
pub(super) fn schema(format: &Value, param: &str) -> Result<Option<(Value, String)>, Refusal> {
    let invalid = |message: String, code: &str| Err(Refusal::invalid(message, Some(param), Some(code)));
    let Some(name) = format["name"].as_str() else {
        return invalid(format!("Missing required parameter: '{param}.name'."), "missing_required_parameter");
    };
    let proper = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !proper {
        return invalid(
            format!("Invalid '{param}.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$' and at most 64."),
            "invalid_value",
        );
    }
    let schema = &format["schema"];
    if format["strict"] == true
        && let Err(complaint) = check_schema(Rules::Openai, schema)
    {
        return invalid(format!("Invalid schema for response_format '{name}': {complaint}"), "invalid_json_schema");
    }
    let title = schema["title"].as_str().unwrap_or(name).to_owned();
    Ok(Some((schema.clone(), title)))
}

/// Appends the text of a message's content: a string, or parts with `text`.
pub(super) fn content(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => into.push_str(text),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).for_each(|text| into.push_str(text)),
        _ => {}
    }
    into.push('\n');
}
