//! The Responses API of `OpenAI`: the body of a request, and how the response is read.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Request};
use crate::reading::{Dialect, End, Output, Refusal, refusal_in, text_of};
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

/// How responses are read.
pub(crate) struct Responses;

impl Dialect for Responses {
    fn output(body: &Value) -> Output {
        let messages: Vec<Message<'_>> = body["output"].as_array().into_iter().flatten().filter_map(Message::of).collect();
        let mut texts = answers(&messages);
        // Some servers send only what OpenAI's libraries make of the messages.
        texts.extend(body["output_text"].as_str().filter(|_| messages.is_empty()).map(str::to_owned));
        let commentary = |message: &&Message<'_>| message.phase == Phase::Commentary;
        let refusals = |is_commentary: bool| {
            let of = messages.iter().filter(|message| commentary(message) == is_commentary);
            of.map(|message| refusal_in(message.content)).max().unwrap_or(Refusal::None)
        };
        // A commentary may refuse a part of what the answer then contains.
        let refusal = if texts.is_empty() { refusals(true).max(refusals(false)) } else { refusals(false) };
        let unknown = |texts, why| Output { texts, otherwise: Some(VendorError::Invalid(why).into()) };
        let output = match body["status"].as_str() {
            Some("completed") => End::Regular.output(texts),
            Some("incomplete") => match End::of(&body["incomplete_details"]["reason"]) {
                End::Regular | End::Unknown => unknown(texts, "incomplete for an unknown reason"),
                end => end.output(texts),
            },
            Some("failed") => Output::failed(Self::reported(&body["error"])),
            None if !texts.is_empty() => End::Regular.output(texts),
            _ => unknown(texts, "neither completed nor failed"),
        };
        output.with(refusal)
    }

    fn failure(reply: &Reply) -> Failure {
        failure(reply)
    }

    fn reported(error: &Value) -> Failure {
        reported(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Commentary,
    FinalAnswer,
    /// Of older models and compatible servers.
    Unnamed,
}

/// An item of the output that is a message. Reasoning is a separate item, which may come first.
struct Message<'a> {
    phase: Phase,
    content: &'a Value,
}

impl<'a> Message<'a> {
    fn of(item: &'a Value) -> Option<Self> {
        let phase = match item["phase"].as_str() {
            None | Some("") => Phase::Unnamed,
            Some("final_answer") => Phase::FinalAnswer,
            Some(_) => Phase::Commentary,
        };
        let is_message = item["type"] == "message" || (item["type"].is_null() && item["role"] == "assistant");
        is_message.then_some(Self { phase, content: &item["content"] })
    }
}

/// Returns the texts that may contain the answer: the messages from the last to the first, then all of them in one, because an answer may be
/// divided. Messages without a phase count if no final answer has a text. A commentary never counts.
fn answers(messages: &[Message<'_>]) -> Vec<String> {
    let texts = |phase: Phase| -> Vec<String> {
        let of = messages.iter().filter(|message| message.phase == phase).map(|message| text_of(message.content));
        of.filter(|text| !text.trim().is_empty()).collect()
    };
    let mut texts = match texts(Phase::FinalAnswer) {
        none if none.is_empty() => texts(Phase::Unnamed),
        answers => answers,
    };
    let whole = (texts.len() > 1).then(|| texts.concat());
    texts.reverse();
    texts.extend(whole);
    texts
}

/// An error. Compatible servers give numbers as codes, or a text in place of the whole error.
struct ErrorBody<'a>(&'a Value);

impl ErrorBody<'_> {
    /// Returns the code, or the type of an error without one.
    fn name(&self) -> String {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        code(text(&self.0["code"]).or_else(|| text(&self.0["type"])).as_deref())
    }

    /// Whether the provider refuses what the prompt is about. Another attempt is refused again.
    fn is_refusal(&self) -> bool {
        let name = self.name();
        matches!(name.as_str(), "invalid_prompt" | "content_filter") || name.ends_with("_policy") || name.ends_with("_policy_violation")
    }

    /// Whether money, credit or a limit of spending is used up.
    fn is_quota(&self) -> bool {
        let name = self.name();
        self.0["type"] == "insufficient_quota"
            || matches!(name.as_str(), "insufficient_quota" | "credit_balance_exhausted" | "organization_usage_limit_exceeded")
            || name.ends_with("_spend_limit_exceeded")
    }
}

/// Returns what an error means that is reported with a status of success.
pub(crate) fn reported(error: &Value) -> Failure {
    let error = ErrorBody(error);
    if error.is_refusal() {
        return Failure::Declined;
    }
    let name = error.name();
    Failure::Vendor(match name.as_str() {
        _ if error.is_quota() => VendorError::QuotaExhausted(name),
        "rate_limit_exceeded" | "rate_limit_error" => VendorError::RateLimited { retry_after: None },
        "invalid_api_key" | "authentication_error" => VendorError::Unauthorized,
        // Faults of the project's configuration, or of the request.
        "data_residency_mismatch" | "invalid_request_error" | "model_not_found" => VendorError::Rejected { status: 200, code: name },
        _ => VendorError::Overloaded(200),
    })
}

/// Returns what a response means whose status is no success.
pub(crate) fn failure(reply: &Reply) -> Failure {
    let body = reply.json::<Value>().unwrap_or_default();
    let error = ErrorBody(&body["error"]);
    if reply.status == StatusCode::BAD_REQUEST && error.is_refusal() {
        return Failure::Declined;
    }
    let name = error.name();
    // Billing failures have the status 429, which otherwise means to wait.
    Failure::Vendor(if error.is_quota() { VendorError::QuotaExhausted(name) } else { reply.error(name) })
}
