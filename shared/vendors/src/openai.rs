//! The Responses API of `OpenAI`: the body of a request, and how the response is read.

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Reading, Request};
use crate::models::Usage;
use crate::wire::{Reply, code};

/// Returns the body of a request. `OpenAI` does not store it, and its stable parts come first, for prompt caching. The business is data of the
/// user's, as the profile is: only our own instructions are instructions.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let question = request.question;
    let mut body = json!({
        "model": request.model,
        "instructions": question.prompt.instructions,
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": question.prompt.business},
                {"type": "input_text", "text": question.prompt.profile},
            ]},
        ],
        "max_output_tokens": request.max_output_tokens,
        "text": {"format": {"type": "json_schema", "name": request.schema["title"], "schema": request.schema, "strict": true}},
        "store": false,
        "prompt_cache_key": question.cache_key,
        "safety_identifier": question.safety_id,
    });
    if let Some(effort) = request.effort {
        body["reasoning"] = json!({"effort": effort.as_str()});
    }
    body
}

#[derive(Deserialize)]
struct Response {
    id: Option<String>,
    status: String,
    error: Option<ErrorBody>,
    incomplete_details: Option<Incomplete>,
    #[serde(default)]
    output: Vec<Item>,
    usage: Option<UsageBody>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    /// `commentary` or `final_answer`. Older models and compatible servers give none.
    phase: Option<String>,
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct UsageBody {
    input_tokens: i64,
    input_tokens_details: Option<InputDetails>,
    output_tokens: i64,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: i64,
    cache_write_tokens: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: i64,
}

/// Compatible servers give numbers as codes, or a text in place of the whole error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Value,
    code: Value,
}

impl ErrorBody {
    fn of(reply: &Reply) -> Self {
        let body = reply.json::<Value>().unwrap_or_default();
        Self { kind: body["error"]["type"].clone(), code: body["error"]["code"].clone() }
    }

    /// Returns the code, or the type of an error without one.
    fn name(&self) -> String {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        code(text(&self.code).or_else(|| text(&self.kind)).as_deref())
    }

    /// Whether the provider refuses what the prompt is about. Another attempt is refused again.
    fn is_refusal(&self) -> bool {
        let name = self.name();
        matches!(name.as_str(), "invalid_prompt" | "content_filter") || name.ends_with("_policy") || name.ends_with("_policy_violation")
    }

    /// Whether money, credit or a limit of spending is used up.
    fn is_quota(&self) -> bool {
        let name = self.name();
        self.kind == "insufficient_quota"
            || matches!(name.as_str(), "insufficient_quota" | "credit_balance_exhausted" | "organization_usage_limit_exceeded")
            || name.ends_with("_spend_limit_exceeded")
    }
}

/// Reads a response: its status, a refusal and a truncation take precedence over its text.
pub(crate) fn read(reply: &Reply) -> Reading {
    if !reply.status.is_success() {
        return Reading::failed(failure(reply));
    }
    let response = match reply.json::<Response>() {
        Ok(response) => response,
        Err(error) => return Reading::failed(error),
    };
    // A response that failed without usage says nothing about its cost.
    let usage = response.usage.as_ref().map(usage);
    let response_id = response.id.clone().filter(|id| code(Some(id)) == *id);
    Reading { usage, response_id, text: text(response) }
}

fn text(response: Response) -> Result<String, Failure> {
    let refuses = |item: &Item| item.content.iter().flatten().any(|part| part.kind == "refusal");
    let messages: Vec<&Item> = response.output.iter().filter(|item| item.kind == "message").collect();
    if messages.iter().any(|item| refuses(item)) {
        return Err(Failure::Declined);
    }
    match response.status.as_str() {
        "completed" => Ok(final_answer(&messages)),
        "incomplete" => Err(match response.incomplete_details.and_then(|details| details.reason).as_deref() {
            Some("max_output_tokens") => Failure::Truncated,
            Some("content_filter") => Failure::Declined,
            _ => Failure::Vendor(VendorError::Invalid("incomplete for an unknown reason")),
        }),
        "failed" => Err(failed(&response.error.unwrap_or_default())),
        _ => Err(Failure::Vendor(VendorError::Invalid("neither completed nor failed"))),
    }
}

/// Returns the text of the last final answer. A message without a phase counts as one if no other does; a commentary never does. Reasoning is a
/// separate item, which may come first.
fn final_answer(messages: &[&Item]) -> String {
    let last = |phase: Option<&str>| messages.iter().rev().find(|item| item.phase.as_deref() == phase);
    let parts = last(Some("final_answer")).or_else(|| last(None)).and_then(|item| item.content.as_ref());
    parts.into_iter().flatten().filter(|part| part.kind == "output_text").filter_map(|part| part.text.as_deref()).collect()
}

/// Returns what a response means whose status is failed, though that of HTTP is 200.
fn failed(error: &ErrorBody) -> Failure {
    if error.is_refusal() {
        return Failure::Declined;
    }
    let name = error.name();
    Failure::Vendor(match name.as_str() {
        _ if error.is_quota() => VendorError::QuotaExhausted(name),
        "rate_limit_exceeded" => VendorError::RateLimited { retry_after: None },
        // A fault of the project's configuration.
        "data_residency_mismatch" => VendorError::Rejected { status: 200, code: name },
        _ => VendorError::Overloaded(200),
    })
}

/// `input_tokens` includes the tokens that were read from the cache and those that were written to it.
fn usage(body: &UsageBody) -> Usage {
    let cached = body.input_tokens_details.as_ref().map_or(0, |details| details.cached_tokens);
    let written = body.input_tokens_details.as_ref().map_or(0, |details| details.cache_write_tokens);
    Usage {
        fresh_input: (body.input_tokens - cached - written).max(0),
        cached_input: cached,
        cache_write: written,
        output: body.output_tokens,
        reasoning: body.output_tokens_details.as_ref().map_or(0, |details| details.reasoning_tokens),
    }
}

/// Returns what a response means whose status is no success.
pub(crate) fn failure(reply: &Reply) -> Failure {
    let error = ErrorBody::of(reply);
    if reply.status == StatusCode::BAD_REQUEST && error.is_refusal() {
        return Failure::Declined;
    }
    let name = error.name();
    // Billing failures have the status 429, which otherwise means to wait.
    Failure::Vendor(if error.is_quota() { VendorError::QuotaExhausted(name) } else { reply.error(name) })
}
