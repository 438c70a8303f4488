//! What is read from a model's response, whichever API it is of. Compatible servers and gateways deviate from what the APIs document: each part
//! of a response is read by itself, and one that is not understood says nothing about the others.

use reqwest::StatusCode;
use serde_json::Value;

use crate::error::VendorError;
use crate::exchange::Failure;
use crate::models::Usage;
use crate::usage;
use crate::wire::{BROKEN_OFF, Reply, code};

/// What was read from a provider's response. The usage may be known even if there is no answer.
pub(crate) struct Reading {
    /// `None` if the provider may have charged what its response does not say.
    pub(crate) usage: Option<Usage>,
    pub(crate) response_id: Option<String>,
    pub(crate) output: Output,
}

/// The output of a model. An answer in one of the texts takes precedence over what the response says about itself, because it is paid for: a
/// truncated answer may be whole, and a refusal may concern another part. A text that the provider withdraws is not among them.
#[derive(Default)]
pub(crate) struct Output {
    /// The texts that may contain the answer, the likeliest first.
    pub(crate) texts: Vec<String>,
    /// What it means if none of them does. `None` if the response ended regularly.
    pub(crate) otherwise: Option<Failure>,
}

impl Output {
    /// Without any text.
    pub(crate) fn failed(failure: impl Into<Failure>) -> Self {
        Self { texts: Vec::new(), otherwise: Some(failure.into()) }
    }
}

/// The dialect of an API.
pub(crate) trait Dialect {
    /// Reads what the model wrote.
    fn output(body: &Value) -> Output;
    /// Returns what a response means whose status is no success.
    fn failure(reply: &Reply) -> Failure;
    /// Returns what an error means that is reported by a response of success, without a status.
    fn reported(error: &Value) -> Failure;
}

impl Reading {
    /// Reads a response.
    pub(crate) fn of<D: Dialect>(reply: &Reply) -> Self {
        if !reply.status.is_success() {
            return Self::failed(D::failure(reply));
        }
        let body = match reply.json::<Value>() {
            Ok(body) if body.is_object() => body,
            Ok(_) => return Self::failed(VendorError::Invalid("not the documented JSON")),
            Err(error) => return Self::failed(error),
        };
        let mut output = D::output(&body);
        let is_silent = output.texts.is_empty();
        let mut usage = usage::read(&body["usage"]).filter(|usage| is_silent || usage.output > 0);
        if let Some(error) = error_in(&body).filter(|_| is_silent) {
            output.otherwise = Some(match status_in(error) {
                // A gateway's error, which means the same as with this status.
                Some(status) => {
                    let is_refused_at_once = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
                    usage = usage.or_else(|| is_refused_at_once.then(Usage::default));
                    D::failure(&reply.with_status(status))
                }
                None => D::reported(error),
            });
        }
        Self { usage, response_id: id_in(&body), output }
    }

    /// Without a response that reports its usage. An error status costs nothing. What a provider did whose response did not arrive whole is
    /// unknown.
    pub(crate) fn failed(failure: impl Into<Failure>) -> Self {
        let failure = failure.into();
        let unknown = match &failure {
            Failure::Vendor(VendorError::Timeout | VendorError::Invalid(_)) | Failure::Aborted => true,
            Failure::Vendor(VendorError::Transport(what)) => *what == BROKEN_OFF,
            _ => false,
        };
        Self { usage: (!unknown).then(Usage::default), response_id: None, output: Output::failed(failure) }
    }
}

/// Returns the error that a response reports. Some servers send an empty one with every response.
fn error_in(body: &Value) -> Option<&Value> {
    let is_empty = match &body["error"] {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.values().all(|value| value.is_null() || value == "" || value == 0),
        _ => false,
    };
    body.get("error").filter(|_| !is_empty)
}

/// Returns the HTTP status in an error, which gateways give as its code.
fn status_in(error: &Value) -> Option<StatusCode> {
    let number = |name: &&str| match &error[*name] {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let status = ["code", "status", "status_code"].iter().find_map(|name| number(name).filter(|number| (400..600).contains(number)));
    status.and_then(|status| StatusCode::from_u16(status).ok())
}

/// Returns the response's id, if it has the form of one.
fn id_in(body: &Value) -> Option<String> {
    let id = match &body["id"] {
        Value::Number(number) => number.to_string(),
        id => id.as_str()?.to_owned(),
    };
    (code(Some(&id)) == id).then_some(id)
}

/// Returns the text of a content: a string, or a list of parts. Parts of other kinds, such as thinking, are left out.
pub(crate) fn text_of(content: &Value) -> String {
    let text = |part: &Value| match part {
        Value::String(text) => Some(text.clone()),
        part => matches!(part["type"].as_str(), None | Some("text" | "output_text")).then(|| part["text"].as_str().map(str::to_owned))?,
    };
    match content {
        Value::Array(parts) => parts.iter().filter_map(text).collect(),
        content => text(content).unwrap_or_default(),
    }
}

/// How a refusal is expressed, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    None,
    /// The field or part of a refusal, without a word in it.
    Empty,
    Worded,
}

/// Returns whether a content has a part that is a refusal.
pub(crate) fn refusal_in(content: &Value) -> Refusal {
    let parts = content.as_array().into_iter().flatten().filter(|part| part["type"] == "refusal");
    parts.map(|part| refusal(&part["refusal"]).max(refusal(&part["text"])).max(Refusal::Empty)).max().unwrap_or(Refusal::None)
}

/// Returns whether a field is a refusal. Without one, servers send null, an empty text or false.
pub(crate) fn refusal(field: &Value) -> Refusal {
    let is_worded = match field {
        Value::String(text) => !text.trim().is_empty(),
        field => *field == true,
    };
    if is_worded { Refusal::Worded } else { Refusal::None }
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The model has written its answer.
    Regular,
    /// At the limit of its output.
    Cut,
    /// The provider withdraws the output.
    Withdrawn,
    Unknown,
}

impl End {
    /// Reads the reason for the end, in the words of all APIs.
    pub(crate) fn of(reason: &Value) -> Self {
        let Some(reason) = reason.as_str() else {
            return if reason.is_null() { Self::Regular } else { Self::Unknown };
        };
        match reason.to_lowercase().as_str() {
            "" | "stop" | "end_turn" | "stop_sequence" | "stop_token" | "eos" | "eos_token" | "completed" | "complete" => Self::Regular,
            "length" | "max_tokens" | "max_output_tokens" | "max_completion_tokens" | "model_length" | "model_context_window_exceeded" => {
                Self::Cut
            }
            "content_filter" | "refusal" | "safety" | "recitation" | "blocklist" | "prohibited_content" | "spii" => Self::Withdrawn,
            _ => Self::Unknown,
        }
    }

    /// Returns the output that ended so, with these texts.
    pub(crate) fn output(self, texts: Vec<String>) -> Output {
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.trim().is_empty()).collect();
        match self {
            Self::Regular => Output { texts, otherwise: None },
            Self::Cut => Output { texts, otherwise: Some(Failure::Truncated) },
            Self::Withdrawn => Output::failed(Failure::Declined),
            Self::Unknown => Output { texts, otherwise: Some(VendorError::Invalid("ended for an unknown reason").into()) },
        }
    }
}

impl Output {
    /// Adds what the response says of a refusal. An empty one is a refusal only if there is no text.
    pub(crate) fn with(mut self, refusal: Refusal) -> Self {
        if refusal == Refusal::Worded || (refusal == Refusal::Empty && self.texts.is_empty()) {
            self.otherwise = Some(Failure::Declined);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_of_every_content_is_read() {
        for (content, text) in [
            (json!("a"), "a"),
            (json!([{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}]), "ab"),
            (
                json!([{"type": "thinking", "thinking": "x", "text": "x"}, {"type": "redacted_thinking"}, {"type": "text", "text": "a"}]),
                "a",
            ),
            (
                json!([{"type": "text", "text": null}, null, 1, "a", {"text": "b"}, {"type": "text"}, {"type": "reasoning", "text": "x"}]),
                "ab",
            ),
            (json!({"type": "text", "text": "a"}), "a"),
            (json!(null), ""),
            (json!(1), ""),
            (json!([]), ""),
        ] {
            assert_eq!(text_of(&content), text, "{content}");
        }
    }

    #[test]
    fn only_an_error_with_content_is_one_and_its_code_may_be_a_status() {
        for (body, error) in [
            (json!({}), None),
            (json!({"error": null}), None),
            (json!({"error": {}}), None),
            (json!({"error": {"code": null, "message": ""}}), None),
            (json!({"error": false}), None),
            (json!({"error": "exploded"}), Some(None)),
            (json!({"error": {"code": 402, "message": "x"}}), Some(Some(402))),
            (json!({"error": {"code": "429"}}), Some(Some(429))),
            (json!({"error": {"status": 503, "code": "x"}}), Some(Some(503))),
            (json!({"error": {"code": 200}}), Some(None)),
            (json!({"error": {"code": 70_000}}), Some(None)),
            (json!({"error": {"code": "insufficient_quota"}}), Some(None)),
        ] {
            assert_eq!(error_in(&body).map(|error| status_in(error).map(|status| status.as_u16())), error, "{body}");
        }
    }

    #[test]
    fn ids_and_refusals_of_any_form_are_read() {
        for (id, read) in
            [(json!("resp_1"), Some("resp_1")), (json!(123), Some("123")), (json!(null), None), (json!("@jane"), None), (json!([1]), None)]
        {
            assert_eq!(id_in(&json!({ "id": id })).as_deref(), read);
        }
        for (field, expected) in [
            (json!("I cannot."), Refusal::Worded),
            (json!(true), Refusal::Worded),
            (json!(false), Refusal::None),
            (json!(" "), Refusal::None),
            (json!(null), Refusal::None),
        ] {
            assert_eq!(refusal(&field), expected);
        }
    }
}
