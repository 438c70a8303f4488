//! The Messages API of Anthropic: the body of a request, and how the response is read.

use oslira_domain::assessment;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::error::VendorError;
use crate::exchange::{Failure, Request};
use crate::models::Effort;
use crate::reading::{Dialect, End, Output, text_of};
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

/// How responses are read.
pub(crate) struct Messages;

impl Dialect for Messages {
    fn output(body: &Value) -> Output {
        if body["type"] == "error" {
            return Output::default();
        }
        // Thinking is in separate blocks.
        End::of(&body["stop_reason"]).output(vec![text_of(&body["content"])])
    }

    fn failure(reply: &Reply) -> Failure {
        let body = reply.json::<Value>().unwrap_or_default();
        let error = &body["error"];
        let name = code(error["details"]["error_code"].as_str().or(error["type"].as_str()));
        Failure::Vendor(match name.as_str() {
            "billing_error" => VendorError::QuotaExhausted(name),
            // Spending limits, enforced or of a contract, have the status 429, which otherwise means to wait.
            limit if limit.ends_with("spend_limit_reached") => VendorError::QuotaExhausted(name),
            "overloaded_error" => VendorError::Overloaded(529),
            _ => reply.error(name),
        })
    }

    fn reported(error: &Value) -> Failure {
        let name = code(error["type"].as_str());
        let status = match name.as_str() {
            "invalid_request_error" => StatusCode::BAD_REQUEST,
            "authentication_error" => StatusCode::UNAUTHORIZED,
            "billing_error" => StatusCode::PAYMENT_REQUIRED,
            "permission_error" => StatusCode::FORBIDDEN,
            "not_found_error" => StatusCode::NOT_FOUND,
            "request_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
            "rate_limit_error" => StatusCode::TOO_MANY_REQUESTS,
            _ => return VendorError::Overloaded(200).into(),
        };
        let body = json!({ "error": error }).to_string().into_bytes();
        Self::failure(&Reply { status, headers: HeaderMap::new(), body })
    }
}
