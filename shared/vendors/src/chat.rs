//! The Chat Completions API of `OpenAI`, which most compatible servers implement. The request has only the fields that they have in common:
//! servers often reject a request with a field that they do not know.

use oslira_domain::assessment;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Reading, Request};
use crate::models::Usage;
use crate::openai;
use crate::wire::{Reply, code};

/// Returns the body of a request, with its stable parts first.
///
/// There is one system message and one message of the user, because many chat templates reject or drop a second one. The fields are described in
/// words too: a server constrains the model's answer by the schema and does not show it to the model.
pub(crate) fn body(request: &Request<'_>) -> Value {
    let prompt = &request.question.prompt;
    let schema = json!({"name": request.schema["title"], "schema": request.schema, "strict": true});
    let fields = assessment::described(request.schema);
    let mut body = json!({
        "model": request.model,
        "messages": [
            {"role": "system", "content": format!("{}\n# The fields of your answer, in this order\n\n{fields}", prompt.instructions)},
            {"role": "user", "content": format!("{}\n\n{}", prompt.business, prompt.profile)},
        ],
        "response_format": {"type": "json_schema", "json_schema": schema},
    });
    body[request.limit.as_str()] = json!(request.max_output_tokens);
    if let Some(effort) = request.effort {
        body["reasoning_effort"] = json!(effort.as_str());
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

/// Reads a response: a refusal and the reason for its end take precedence over its text.
pub(crate) fn read(reply: &Reply) -> Reading {
    if !reply.status.is_success() {
        return Reading::failed(openai::failure(reply));
    }
    let completion = match reply.json::<Completion>() {
        Ok(completion) => completion,
        Err(error) => return Reading::failed(error),
    };
    let usage = completion.usage.as_ref().map(usage);
    let response_id = completion.id.clone().filter(|id| code(Some(id)) == *id);
    Reading { usage, response_id, text: text(completion) }
}

fn text(completion: Completion) -> Result<String, Failure> {
    let choice = completion.choices.into_iter().next().ok_or(Failure::Vendor(VendorError::Invalid("no choice")))?;
    if choice.message.refusal.is_some_and(|refusal| !refusal.is_empty()) {
        return Err(Failure::Declined);
    }
    match choice.finish_reason.as_deref() {
        Some("stop") => Ok(choice.message.content.unwrap_or_default()),
        Some("length") => Err(Failure::Truncated),
        Some("content_filter") => Err(Failure::Declined),
        _ => Err(Failure::Vendor(VendorError::Invalid("ended for an unknown reason"))),
    }
}

/// `prompt_tokens` includes the tokens that were read from the cache and those that were written to it.
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
