//! `POST /v1/chat/completions`.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::requests;
use crate::calls::Vendor;
use crate::models::{Answer, Caching, Dialect, Question, Refusal, Stop};
use crate::wire;

/// The Chat Completions API.
pub(super) struct Chat;

const PARAMETERS: &[&str] = &[
    "model",
    "messages",
    "response_format",
    "max_completion_tokens",
    "reasoning_effort",
    "verbosity",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "metadata",
    "service_tier",
    "temperature",
    "top_p",
    "stream",
    "n",
    "seed",
    "stop",
    "user",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
    "modalities",
];

impl Dialect for Chat {
    const VENDOR: Vendor = Vendor::Openai;
    const OP: &'static str = "chat";

    fn read_question(_headers: &HeaderMap, request: &Value) -> Result<Question, Refusal> {
        if request.get("max_tokens").is_some() {
            let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return Err(Refusal::invalid(message, Some("max_tokens"), Some("unsupported_parameter")));
        }
        requests::known(request, PARAMETERS)?;
        let (model, model_name) = requests::model(request)?;
        requests::unsupported(request)?;
        let format = &request["response_format"];
        let schema =
            if format["type"] == "json_schema" { requests::schema(&format["json_schema"], "response_format.json_schema")? } else { None };
        let mut prompt = schema.as_ref().map(|(schema, _)| schema.to_string()).unwrap_or_default();
        let Some(messages) = request["messages"].as_array().filter(|messages| !messages.is_empty()) else {
            return Err(Refusal::invalid("Missing required parameter: 'messages'.", Some("messages"), Some("missing_required_parameter")));
        };
        for message in messages {
            requests::content(&message["content"], &mut prompt);
        }
        let (schema, schema_title) = schema.unzip();
        Ok(Question {
            model,
            model_name,
            schema,
            schema_title,
            prompt,
            caching: Caching::Implicit { key: request["prompt_cache_key"].as_str().unwrap_or_default().to_owned() },
            budget: requests::budget(&request["max_completion_tokens"], "max_completion_tokens")?,
            effort: requests::effort(model, &request["reasoning_effort"], "reasoning_effort")?,
        })
    }

    fn write_answer(_request: &Value, answer: &Answer) -> Value {
        let (content, refusal) = match answer.stop {
            Stop::Refused => (None, answer.text.as_deref()),
            _ => (Some(answer.text.as_deref().unwrap_or_default()), None),
        };
        json!({
            "id": answer.id.clone().unwrap_or_else(|| format!("chatcmpl-{}", wire::id(29))), "object": "chat.completion", "created": Timestamp::now().as_second(),
            "model": answer.model_name,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content, "refusal": refusal, "annotations": []},
                "logprobs": null, "finish_reason": if answer.stop == Stop::Budget { "length" } else { "stop" }}],
            "usage": {
                "prompt_tokens": answer.tokens.input, "completion_tokens": answer.tokens.output,
                "total_tokens": answer.tokens.input + answer.tokens.output,
                "prompt_tokens_details": {"cached_tokens": answer.tokens.cached, "cache_write_tokens": answer.tokens.cache_write, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": answer.tokens.reasoning, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
            },
            "service_tier": "default", "system_fingerprint": null
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
