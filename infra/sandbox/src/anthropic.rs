//! The Anthropic Messages API.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::bill::{ANTHROPIC, find};
use crate::calls::Vendor;
use crate::models::{Answer, Caching, Dialect, Models, Question, Refusal, Rules, Stop, check_schema, exchange};
use crate::wire;

/// The API version that removed the sampling parameters.
const NEW_VERSION: &str = "2026-10-21";
const OLD_VERSION: &str = "2023-06-01";
/// The largest limit of output tokens of all models here.
const LARGEST_OUTPUT: i64 = 128_000;
/// The models that reject a request without thinking.
const ALWAYS_THINKING: [&str; 2] = ["claude-opus-5-5", "claude-sonnet-5-5"];
/// The largest number of `cache_control` marks.
const MAX_MARKS: usize = 4;

const PARAMETERS: &[&str] = &[
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "output_config",
    "thinking",
    "cache_control",
    "metadata",
    "service_tier",
    "stop_sequences",
    "inference_geo",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "container",
    "context_management",
];

/// Returns the routes below `/anthropic`.
pub(crate) fn routes(models: Arc<Models>) -> Router {
    Router::new()
        .route(
            "/v1/messages",
            post(|State(models): State<Arc<Models>>, headers: HeaderMap, body: Bytes| async move {
                exchange::<Messages>(&models, &headers, body).await
            }),
        )
        .route("/v1/models", get(list_models))
        .fallback(async || Messages::write_error(&Refusal { status: 404, message: "Not found".to_owned(), ..Refusal::default() }))
        .with_state(models)
}

async fn list_models(State(models): State<Arc<Models>>, headers: HeaderMap) -> Response {
    if !Messages::credential(&headers).is_some_and(|key| models.shared.accepts(Vendor::Anthropic, key)) {
        return Messages::write_error(&Refusal { status: 401, message: "invalid x-api-key".to_owned(), ..Refusal::default() });
    }
    let list: Vec<Value> = ANTHROPIC
        .iter()
        .map(|model| json!({"type": "model", "id": model.name, "display_name": model.name, "created_at": "2026-10-07T00:00:00Z"}))
        .collect();
    let end = |model: Option<&crate::bill::Model>| model.map(|model| model.name);
    wire::json(200, &json!({"data": list, "has_more": false, "first_id": end(ANTHROPIC.first()), "last_id": end(ANTHROPIC.last())}))
}

/// The Messages API.
struct Messages;

/// The prompt in the order in which it is cached, and the ends of its marked parts.
#[derive(Default)]
struct Prompt {
    text: String,
    ends: Vec<usize>,
    one_hour: bool,
}

impl Prompt {
    fn part(&mut self, text: &str, cache_control: &Value) {
        self.text.push_str(text);
        self.text.push('\n');
        self.mark(cache_control);
    }

    fn mark(&mut self, cache_control: &Value) {
        if cache_control["type"] == "ephemeral" {
            self.ends.push(self.text.len());
            self.one_hour |= cache_control["ttl"] == "1h";
        }
    }

    fn content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.part(text, &Value::Null),
            Value::Array(blocks) => {
                for block in blocks {
                    self.part(block["text"].as_str().unwrap_or_default(), &block["cache_control"]);
                }
            }
            _ => {}
        }
    }

    fn of(request: &Value) -> Self {
        let mut prompt = Self::default();
        for tool in request["tools"].as_array().into_iter().flatten() {
            prompt.part(&tool.to_string(), &tool["cache_control"]);
        }
        if !request["output_config"]["format"].is_null() {
            prompt.part(&request["output_config"]["format"].to_string(), &Value::Null);
        }
        prompt.content(&request["system"]);
        for message in request["messages"].as_array().into_iter().flatten() {
            prompt.content(&message["content"]);
        }
        prompt.mark(&request["cache_control"]);
        prompt
    }
}

/// Returns the tool that the model must call, if any.
fn forced_tool(request: &Value) -> Option<&Value> {
    let tools = request["tools"].as_array()?;
    match request["tool_choice"]["type"].as_str()? {
        "tool" => tools.iter().find(|tool| tool["name"] == request["tool_choice"]["name"]),
        "any" => tools.first(),
        _ => None,
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::invalid(message, None, None)
}

fn check_version(headers: &HeaderMap, request: &Value) -> Result<(), Refusal> {
    let version = headers.get("anthropic-version").and_then(|value| value.to_str().ok());
    match version {
        None => Err(invalid("anthropic-version: header is required")),
        Some(OLD_VERSION) => Ok(()),
        Some(NEW_VERSION) => match ["temperature", "top_p", "top_k"].into_iter().find(|name| request.get(name).is_some()) {
            Some(name) => Err(invalid(format!("{name}: Extra inputs are not permitted"))),
            None => Ok(()),
        },
        Some(other) => Err(invalid(format!("anthropic-version: \"{other}\" is not a valid version"))),
    }
}

fn check_messages(request: &Value) -> Result<(), Refusal> {
    let Some(messages) = request["messages"].as_array() else {
        return Err(invalid("messages: Field required"));
    };
    if messages.is_empty() {
        return Err(invalid("messages: at least one message is required"));
    }
    for (index, message) in messages.iter().enumerate() {
        if !matches!(message["role"].as_str(), Some("user" | "assistant")) {
            return Err(invalid(format!("messages.{index}.role: Input should be 'user' or 'assistant'")));
        }
        let empty = match &message["content"] {
            Value::String(text) => text.is_empty(),
            Value::Array(blocks) => blocks.iter().any(|block| block["type"] == "text" && block["text"].as_str().is_none_or(str::is_empty)),
            _ => return Err(invalid(format!("messages.{index}.content: Field required"))),
        };
        if empty {
            return Err(invalid("messages: text content blocks must be non-empty"));
        }
    }
    Ok(())
}

fn effort(request: &Value) -> Result<String, Refusal> {
    if request["thinking"]["type"] == "disabled" {
        return match request["model"].as_str().filter(|model| ALWAYS_THINKING.contains(model)) {
            Some(model) => Err(invalid(format!("thinking.type: 'disabled' is not supported for {model}"))),
            None => Ok("none".to_owned()),
        };
    }
    match &request["output_config"]["effort"] {
        Value::Null => Ok("medium".to_owned()),
        Value::String(effort) if ["low", "medium", "high", "xhigh", "max"].contains(&effort.as_str()) => Ok(effort.clone()),
        _ => Err(invalid("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")),
    }
}

impl Dialect for Messages {
    const VENDOR: Vendor = Vendor::Anthropic;
    const OP: &'static str = "messages";

    fn read_question(headers: &HeaderMap, request: &Value) -> Result<Question, Refusal> {
        check_version(headers, request)?;
        if let Some(name) = request.as_object().and_then(|object| object.keys().find(|name| !PARAMETERS.contains(&name.as_str()))) {
            return Err(invalid(format!("{name}: Extra inputs are not permitted")));
        }
        let Some(model_name) = request["model"].as_str() else { return Err(invalid("model: Field required")) };
        let Some(model) = find(ANTHROPIC, model_name) else {
            return Err(Refusal { status: 404, message: format!("model: {model_name}"), ..Refusal::default() });
        };
        let budget = match &request["max_tokens"] {
            Value::Null => return Err(invalid("max_tokens: Field required")),
            value => match value.as_i64() {
                Some(budget @ 1..=LARGEST_OUTPUT) => budget,
                Some(budget) if budget > LARGEST_OUTPUT => {
                    return Err(invalid(format!(
                        "max_tokens: {budget} > {LARGEST_OUTPUT}, which is the maximum allowed number of output tokens for {model_name}"
                    )));
                }
                _ => return Err(invalid("max_tokens: Input should be greater than or equal to 1")),
            },
        };
        if request["stream"] == true {
            return Err(invalid("stream: the sandbox does not stream"));
        }
        check_messages(request)?;
        let prompt = Prompt::of(request);
        if prompt.ends.len() > MAX_MARKS {
            let found = prompt.ends.len();
            return Err(invalid(format!("A maximum of {MAX_MARKS} blocks with cache_control may be provided. Found {found}.")));
        }
        let format = &request["output_config"]["format"];
        let (schema, title) = if let Some(tool) = forced_tool(request) {
            (Some(tool["input_schema"].clone()), tool["name"].as_str())
        } else if format["type"] == "json_schema" {
            check_schema(Rules::Anthropic, &format["schema"])
                .map_err(|complaint| invalid(format!("output_config.format.schema: {complaint}")))?;
            (Some(format["schema"].clone()), None)
        } else {
            (None, None)
        };
        let title = schema.as_ref().and_then(|schema| schema["title"].as_str()).or(title).map(str::to_owned);
        Ok(Question {
            model,
            model_name: model_name.to_owned(),
            schema,
            schema_title: title,
            prompt: prompt.text,
            caching: Caching::Marked { ends: prompt.ends, one_hour: prompt.one_hour },
            budget,
            effort: effort(request)?,
        })
    }

    fn write_answer(request: &Value, answer: &Answer) -> Value {
        let mut content = Vec::new();
        if answer.tokens.reasoning > 0 && answer.stop != Stop::Refused {
            content.push(json!({"type": "thinking", "thinking": "", "signature": wire::id(32)}));
        }
        let mut stop = match answer.stop {
            Stop::Done => "end_turn",
            Stop::Budget => "max_tokens",
            Stop::Refused => "refusal",
        };
        if let Some(text) = answer.text.as_deref().filter(|_| answer.stop != Stop::Refused) {
            match forced_tool(request).zip(serde_json::from_str::<Value>(text).ok()) {
                Some((tool, input)) => {
                    stop = if stop == "end_turn" { "tool_use" } else { stop };
                    content
                        .push(json!({"type": "tool_use", "id": format!("toolu_{}", wire::id(24)), "name": tool["name"], "input": input}));
                }
                None => content.push(json!({"type": "text", "text": text})),
            }
        }
        let written = answer.tokens.cache_write;
        let (short, long) = if answer.one_hour { (0, written) } else { (written, 0) };
        let details = (answer.stop == Stop::Refused)
            .then(|| json!({"type": "refusal", "category": null, "explanation": "The sandbox injected this refusal."}));
        json!({
            "id": answer.id.clone().unwrap_or_else(|| format!("msg_{}", wire::id(24))), "type": "message", "role": "assistant", "model": answer.model_name, "content": content,
            "stop_reason": stop, "stop_sequence": null, "stop_details": details,
            "usage": {
                "input_tokens": answer.tokens.input - answer.tokens.cached - written, "cache_creation_input_tokens": written,
                "cache_read_input_tokens": answer.tokens.cached,
                "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
                "output_tokens": answer.tokens.output, "output_tokens_details": {"thinking_tokens": answer.tokens.reasoning},
                "service_tier": "standard", "inference_geo": "global"
            }
        })
    }

    fn write_error(refusal: &Refusal) -> Response {
        let default = match refusal.status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            409 => "conflict_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            503 | 529 => "overloaded_error",
            500..=599 => "api_error",
            _ => "invalid_request_error",
        };
        let mut error = json!({"type": refusal.kind.as_deref().unwrap_or(default), "message": refusal.message});
        if let Some(code) = refusal.code.as_deref().filter(|_| refusal.status == 429) {
            error["details"] = json!({"error_code": code});
        }
        let request_id = format!("req_{}", wire::id(24));
        let mut response = wire::json(refusal.status, &json!({"type": "error", "error": error, "request_id": request_id}));
        wire::set(&mut response, "request-id", &request_id);
        if let Some(seconds) = refusal.retry_after {
            wire::set(&mut response, "retry-after", &seconds.to_string());
        }
        response
    }

    fn add_headers(response: &mut Response, _took: Duration) {
        if !response.headers().contains_key("request-id") {
            wire::set(response, "request-id", &format!("req_{}", wire::id(24)));
        }
        let reset = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for (name, value) in [
            ("anthropic-organization-id", "sandbox"),
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", reset.as_str()),
            ("anthropic-ratelimit-tokens-limit", "2000000"),
            ("anthropic-ratelimit-tokens-remaining", "1995000"),
            ("anthropic-ratelimit-tokens-reset", reset.as_str()),
        ] {
            wire::set(response, name, value);
        }
    }

    fn credential(headers: &HeaderMap) -> Option<&str> {
        wire::bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok())
    }
}
