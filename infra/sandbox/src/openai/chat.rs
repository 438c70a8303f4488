//! `POST /v1/chat/completions`.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::calls::Vendor;
use crate::models::{Ask, Caching, Dialect, Refusal, Reply, Stop};
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

    fn ask(_headers: &HeaderMap, request: &Value) -> Result<Ask, Refusal> {
        if request.get("max_tokens").is_some() {
            let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return Err(Refusal::invalid(message, Some("max_tokens"), Some("unsupported_parameter")));
        }
        super::known(request, PARAMETERS)?;
        let (model, model_name) = super::model(request)?;
        super::unsupported(request)?;
        let format = &request["response_format"];
        let schema =
            if format["type"] == "json_schema" { super::schema(&format["json_schema"], "response_format.json_schema")? } else { None };
        let mut prompt = schema.as_ref().map(|(schema, _)| schema.to_string()).unwrap_or_default();
        let Some(messages) = request["messages"].as_array().filter(|messages| !messages.is_empty()) else {
            return Err(Refusal::invalid("Missing required parameter: 'messages'.", Some("messages"), Some("missing_required_parameter")));
        };
        for message in messages {
            super::content(&message["content"], &mut prompt);
        }
        let (schema, schema_title) = schema.unzip();
        Ok(Ask {
            model,
            model_name,
            schema,
            schema_title,
            prompt,
            caching: Caching::Implicit { key: request["prompt_cache_key"].as_str().unwrap_or_default().to_owned() },
            budget: super::budget(&request["max_completion_tokens"], "max_completion_tokens")?,
            effort: super::effort(model, &request["reasoning_effort"], "reasoning_effort")?,
        })
    }

    fn answer(_request: &Value, reply: &Reply) -> Value {
        let (content, refusal) = match reply.stop {
            Stop::Refused => (None, reply.text.as_deref()),
            _ => (Some(reply.text.as_deref().unwrap_or_default()), None),
        };
        json!({
            "id": format!("chatcmpl-{}", wire::id(29)), "object": "chat.completion", "created": Timestamp::now().as_second(),
            "model": reply.model_name,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content, "refusal": refusal, "annotations": []},
                "logprobs": null, "finish_reason": if reply.stop == Stop::Budget { "length" } else { "stop" }}],
            "usage": {
                "prompt_tokens": reply.tokens.input, "completion_tokens": reply.tokens.output,
                "total_tokens": reply.tokens.input + reply.tokens.output,
                "prompt_tokens_details": {"cached_tokens": reply.tokens.cached, "cache_write_tokens": reply.tokens.cache_write, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": reply.tokens.reasoning, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
            },
            "service_tier": "default", "system_fingerprint": null
        })
    }

    fn error(refusal: &Refusal) -> Response {
        super::error(refusal)
    }

    fn dress(response: &mut Response, took: Duration) {
        super::dress(response, took);
    }

    fn credential(headers: &HeaderMap) -> Option<&str> {
        wire::bearer(headers)
    }
}
