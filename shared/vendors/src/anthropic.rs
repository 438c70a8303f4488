//! The Messages API of Anthropic: the body of a request, and how the response is read.

use oslira_domain::assessment;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Reading, Request};
use crate::models::{Effort, Usage};
use crate::wire::{Reply, code};

/// The version of the API. It has no temperature.
pub(crate) const VERSION: &str = "2026-10-21";

/// Returns the body of a request, which has Anthropic cache everything before the profile. The business is data of the user's, as the profile is.
///
/// Without effort it is not mentioned. There is no effort of none, and the newest models reject `thinking: disabled`: the least is sent instead.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let question = request.question;
    let cached = json!({"type": "ephemeral"});
    let mut body = json!({
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "system": [{"type": "text", "text": question.prompt.instructions, "cache_control": cached}],
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": question.prompt.business, "cache_control": cached},
            {"type": "text", "text": question.prompt.profile},
        ]}],
        "output_config": {"format": {"type": "json_schema", "schema": assessment::without_bounds(request.schema)}},
        "metadata": {"user_id": question.safety_id},
    });
    if let Some(effort) = request.effort {
        let least = if effort == Effort::None { Effort::Low } else { effort };
        body["output_config"]["effort"] = json!(least.as_str());
    }
    body
}

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    #[serde(default)]
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: Option<UsageBody>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct UsageBody {
    input_tokens: i64,
    cache_creation_input_tokens: Option<i64>,
    cache_read_input_tokens: Option<i64>,
    output_tokens: i64,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    details: Option<ErrorDetails>,
}

#[derive(Deserialize)]
struct ErrorDetails {
    error_code: Option<String>,
}

/// Reads a response: the reason for its end takes precedence over its text.
pub(crate) fn read(reply: &Reply) -> Reading {
    if !reply.status.is_success() {
        return Reading::failed(failure(reply));
    }
    let message = match reply.json::<Message>() {
        Ok(message) => message,
        Err(error) => return Reading::failed(error),
    };
    let usage = message.usage.as_ref().map(usage);
    let response_id = message.id.clone().filter(|id| code(Some(id)) == *id);
    Reading { usage, response_id, text: text(&message) }
}

fn text(message: &Message) -> Result<String, Failure> {
    match message.stop_reason.as_deref() {
        // Thinking is in separate blocks.
        Some("end_turn" | "stop_sequence") => {
            Ok(message.content.iter().filter(|block| block.kind == "text").map(|block| block.text.as_str()).collect())
        }
        Some("max_tokens" | "model_context_window_exceeded") => Err(Failure::Truncated),
        Some("refusal") => Err(Failure::Declined),
        _ => Err(Failure::Vendor(VendorError::Invalid("ended for an unknown reason"))),
    }
}

/// `input_tokens` includes neither the tokens that were read from the cache nor those that were written to it.
fn usage(body: &UsageBody) -> Usage {
    Usage {
        fresh_input: body.input_tokens,
        cached_input: body.cache_read_input_tokens.unwrap_or(0),
        cache_write: body.cache_creation_input_tokens.unwrap_or(0),
        output: body.output_tokens,
        reasoning: body.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens).unwrap_or(0),
    }
}

fn failure(reply: &Reply) -> VendorError {
    let error = reply.json::<ErrorEnvelope>().map_or(ErrorBody { kind: None, details: None }, |body| body.error);
    let detail = error.details.and_then(|details| details.error_code);
    let name = code(detail.as_deref().or(error.kind.as_deref()));
    match name.as_str() {
        "billing_error" => VendorError::QuotaExhausted(name),
        // Spending limits, enforced or of a contract, have the status 429, which otherwise means to wait.
        limit if limit.ends_with("spend_limit_reached") => VendorError::QuotaExhausted(name),
        "overloaded_error" => VendorError::Overloaded(529),
        _ => reply.error(name),
    }
}
