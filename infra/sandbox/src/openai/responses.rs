//! `POST /v1/responses`.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::requests;
use crate::calls::Vendor;
use crate::models::{Answer, Caching, Dialect, Question, Refusal, Stop};
use crate::wire;

/// The Responses API.
pub(super) struct Responses;

const PARAMETERS: &[&str] = &[
    "model",
    "input",
    "instructions",
    "max_output_tokens",
    "reasoning",
    "text",
    "store",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "truncation",
    "temperature",
    "top_p",
    "stream",
    "background",
    "include",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "user",
    "previous_response_id",
    "conversation",
    "max_tool_calls",
    "top_logprobs",
];

impl Dialect for Responses {
    const VENDOR: Vendor = Vendor::Openai;
    const OP: &'static str = "responses";

    fn read_question(_headers: &HeaderMap, request: &Value) -> Result<Question, Refusal> {
        requests::known(request, PARAMETERS)?;
        let (model, model_name) = requests::model(request)?;
        requests::unsupported(request)?;
        let format = &request["text"]["format"];
        let schema = if format["type"] == "json_schema" { requests::schema(format, "text.format")? } else { None };
        let mut prompt = schema.as_ref().map(|(schema, _)| schema.to_string()).unwrap_or_default();
        requests::content(&request["instructions"], &mut prompt);
        match &request["input"] {
            Value::Array(items) => items.iter().for_each(|item| requests::content(&item["content"], &mut prompt)),
            text @ Value::String(_) => requests::content(text, &mut prompt),
            _ => return Err(Refusal::invalid("Missing required parameter: 'input'.", Some("input"), Some("missing_required_parameter"))),
        }
        if request["safety_identifier"].as_str().is_some_and(|id| id.chars().count() > 128) {
            return Err(Refusal::invalid(
                "Invalid 'safety_identifier': string too long.",
                Some("safety_identifier"),
                Some("string_above_max_length"),
            ));
        }
        let (schema, schema_title) = schema.unzip();
        Ok(Question {
            model,
            model_name,
            schema,
            schema_title,
            prompt,
            caching: Caching::Implicit { key: request["prompt_cache_key"].as_str().unwrap_or_default().to_owned() },
            budget: requests::budget(&request["max_output_tokens"], "max_output_tokens")?,
            effort: requests::effort(model, &request["reasoning"]["effort"], "reasoning.effort")?,
        })
    }

    fn write_answer(request: &Value, answer: &Answer) -> Value {
        let mut output = Vec::new();
        if answer.tokens.reasoning > 0 {
            output.push(json!({"id": format!("rs_{}", wire::id(32)), "type": "reasoning", "summary": []}));
        }
        let cut = answer.stop == Stop::Budget;
        if answer.text.is_some() || !cut {
            let text = answer.text.as_deref().unwrap_or_default();
            let content = match answer.stop {
                Stop::Refused => json!([{"type": "refusal", "refusal": text}]),
                _ => json!([{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]),
            };
            let status = if cut { "incomplete" } else { "completed" };
            let message = |phase: Option<&str>, content: Value| {
                let id = format!("msg_{}", wire::id(32));
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "phase": phase, "content": content})
            };
            if answer.has_commentary {
                let text = "I look at the profile first.";
                output.push(message(Some("commentary"), json!([{"type": "output_text", "annotations": [], "logprobs": [], "text": text}])));
            }
            output.push(message(answer.has_commentary.then_some("final_answer"), content));
        }
        let (mut status, mut usage) = (
            if cut { "incomplete" } else { "completed" },
            json!({
                "input_tokens": answer.tokens.input,
                "input_tokens_details": {"cached_tokens": answer.tokens.cached, "cache_write_tokens": answer.tokens.cache_write},
                "output_tokens": answer.tokens.output, "output_tokens_details": {"reasoning_tokens": answer.tokens.reasoning},
                "total_tokens": answer.tokens.input + answer.tokens.output
            }),
        );
        let error = answer.failure.as_ref().map(|code| json!({"code": code, "message": "The response failed."}));
        if error.is_some() {
            (status, usage) = ("failed", Value::Null);
            output.clear();
        }
        let now = Timestamp::now().as_second();
        let or = |name: &str, default: Value| request.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(default);
        json!({
            "id": answer.id.clone().unwrap_or_else(|| format!("resp_{}", wire::id(32))), "object": "response", "created_at": now,
            "status": status, "background": false, "completed_at": now, "error": error,
            "incomplete_details": cut.then(|| json!({"reason": "max_output_tokens"})), "instructions": request["instructions"],
            "max_output_tokens": request["max_output_tokens"], "max_tool_calls": null, "model": answer.model_name, "output": output,
            "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": request["prompt_cache_key"],
            "reasoning": {"effort": or("reasoning", json!({}))["effort"], "summary": null}, "safety_identifier": request["safety_identifier"],
            "service_tier": "default", "store": or("store", true.into()), "temperature": 1.0, "text": or("text", json!({"format": {"type": "text"}})),
            "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
            "usage": usage,
            "user": null, "metadata": or("metadata", json!({}))
        })
    }

    fn write_error(refusal: &Refusal) -> Response {
        requests::error(refusal)
    }

    fn add_headers(response: &mut Response, took: Duration) {
        requests::add_headers(response, took);
    }

    fn credential(headers: &HeaderMap) -> Option<&str> {
        wire::bearer(headers)
    }
}
