//! The Responses API of `OpenAI`: the body of a request, and how the response is read.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Reading, Request};
use crate::models::Usage;
use crate::wire::{Reply, code};

/// Returns the body of a request. `OpenAI` does not store it, and its stable parts come first, for prompt caching.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let question = request.question;
    json!({
        "model": request.model,
        "instructions": question.prompt.instructions,
        "input": [
            {"role": "developer", "content": question.prompt.business},
            {"role": "user", "content": question.prompt.profile},
        ],
        "max_output_tokens": request.max_output_tokens,
        "reasoning": {"effort": request.effort.as_str()},
        "text": {"format": {"type": "json_schema", "name": request.schema["title"], "schema": request.schema, "strict": true}},
        "store": false,
        "prompt_cache_key": question.cache_key,
        "safety_identifier": question.safety_id,
    })
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
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
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

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
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
    let usage = response.usage.as_ref().map(usage).unwrap_or_default();
    let response_id = response.id.clone().filter(|id| code(Some(id)) == *id);
    Reading { usage, response_id, text: text(response) }
}

fn text(response: Response) -> Result<String, Failure> {
    let messages = || response.output.iter().filter(|item| item.kind == "message").filter_map(|item| item.content.as_ref()).flatten();
    if messages().any(|part| part.kind == "refusal") {
        return Err(Failure::Declined);
    }
    match response.status.as_str() {
        // Reasoning is a separate item, which may come first.
        "completed" => Ok(messages().filter(|part| part.kind == "output_text").map(|part| part.text.as_str()).collect()),
        "incomplete" => Err(match response.incomplete_details.and_then(|details| details.reason).as_deref() {
            Some("max_output_tokens") => Failure::Truncated,
            Some("content_filter") => Failure::Declined,
            _ => Failure::Vendor(VendorError::Invalid("incomplete for an unknown reason")),
        }),
        "failed" => Err(Failure::Vendor(match response.error.and_then(|error| error.code).as_deref() {
            Some("rate_limit_exceeded") => VendorError::RateLimited { retry_after: None },
            _ => VendorError::Overloaded(200),
        })),
        _ => Err(Failure::Vendor(VendorError::Invalid("neither completed nor failed"))),
    }
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

pub(crate) fn failure(reply: &Reply) -> VendorError {
    let error = reply.json::<ErrorEnvelope>().map_or(ErrorBody { kind: None, code: None }, |body| body.error);
    let name = code(error.code.as_deref().or(error.kind.as_deref()));
    let billing = error.kind.as_deref() == Some("insufficient_quota")
        || matches!(name.as_str(), "insufficient_quota" | "credit_balance_exhausted")
        || name.ends_with("_spend_limit_exceeded")
        || name == "organization_usage_limit_exceeded";
    // Billing failures have the status 429, which otherwise means to wait.
    if billing { VendorError::QuotaExhausted(name) } else { reply.error(name) }
}
