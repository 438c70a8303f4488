//! The Chat Completions API of `OpenAI`, which is what most servers mean that call themselves compatible with it. Only what is common to them
//! is sent: strangers to a field often refuse the request.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::ai::{Failure, Reading, Request};
use crate::models::{Effort, Usage};
use crate::wire::{Reply, code};
use crate::{VendorError, openai};

/// The body of a request, stable parts first.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let prompt = &request.question.prompt;
    let schema = json!({"name": request.schema["title"], "schema": request.schema, "strict": true});
    let mut body = json!({
        "model": request.model,
        "messages": [
            {"role": "system", "content": prompt.instructions},
            {"role": "system", "content": prompt.business},
            {"role": "user", "content": prompt.profile},
        ],
        "max_completion_tokens": request.max_output_tokens,
        "response_format": {"type": "json_schema", "json_schema": schema},
    });
    // Models that cannot think refuse even to be told not to.
    if request.effort != Effort::None {
        body["reasoning_effort"] = json!(request.effort.as_str());
    }
    body
}

#[derive(Deserialize)]
struct Completion {
    id: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<UsageBody>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct UsageBody {
    #[serde(default)]
    prompt_tokens: i64,
    #[serde(default)]
    completion_tokens: i64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<i64>,
    cache_write_tokens: Option<i64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<i64>,
}

/// Reads an answer: a refusal and why it ended before its text.
pub(crate) fn read(reply: &Reply) -> Reading {
    if !reply.status.is_success() {
        return Reading::failed(openai::failure(reply));
    }
    let completion = match reply.json::<Completion>() {
        Ok(completion) => completion,
        Err(error) => return Reading::failed(error),
    };
    let usage = completion.usage.as_ref().map(usage).unwrap_or_default();
    let response_id = completion.id.clone().filter(|id| code(Some(id)) == *id);
    Reading { usage, response_id, text: text(completion) }
}

fn text(completion: Completion) -> Result<String, Failure> {
    let choice = completion.choices.into_iter().next().ok_or(Failure::Vendor(VendorError::Invalid("no choice")))?;
    if choice.message.refusal.is_some_and(|refusal| !refusal.is_empty()) {
        return Err(Failure::Refused);
    }
    match choice.finish_reason.as_deref() {
        Some("stop") => Ok(choice.message.content.unwrap_or_default()),
        Some("length") => Err(Failure::Truncated),
        Some("content_filter") => Err(Failure::Refused),
        _ => Err(Failure::Vendor(VendorError::Invalid("ended for an unknown reason"))),
    }
}

/// `prompt_tokens` includes what was read from the cache and what was written to it.
fn usage(body: &UsageBody) -> Usage {
    let details = body.prompt_tokens_details.as_ref();
    let cached = details.and_then(|details| details.cached_tokens).unwrap_or(0);
    let written = details.and_then(|details| details.cache_write_tokens).unwrap_or(0);
    Usage {
        fresh_input: (body.prompt_tokens - cached - written).max(0),
        cached_input: cached,
        cache_write: written,
        output: body.completion_tokens,
        reasoning: body.completion_tokens_details.as_ref().and_then(|details| details.reasoning_tokens).unwrap_or(0),
    }
}
