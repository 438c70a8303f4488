//! A server with the Chat Completions API only.

use super::*;

fn completion(finish_reason: &str, message: &Value) -> Script {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3500,
            "prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 200}
        }
    });
    Script::json(200, &body)
}

fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text, "refusal": null})
}

async fn answer_in_chat(openai: Vec<Script>) -> Outcome {
    answer_in(
        Setting { api: OpenAiApi::Chat, secrets: ModelSecrets { anthropic: no_key(), ..secrets() }, ..Setting::default() },
        openai,
        vec![],
    )
    .await
}

#[tokio::test]
async fn the_request_has_only_what_all_such_servers_understand() {
    let outcome = answer_in_chat(vec![completion("stop", &said(&light().to_string()))]).await;
    let answer = outcome.result.unwrap();
    assert_eq!(answer.output, light());
    let attempt = &answer.attempt;
    let tokens = [attempt.input_tokens, attempt.cached_input_tokens, attempt.cache_write_tokens, attempt.output_tokens];
    assert_eq!((tokens, attempt.reasoning_tokens), ([3000, 1024, 0, 500], 200));
    // 1976 x 0.1 + 1024 x 0.01 + 500 x 0.5
    assert_eq!((attempt.cost, attempt.response_id.as_deref()), (Some(MicroUsd(458)), Some("chatcmpl-1")));

    let sent = &outcome.openai[0];
    assert_eq!(sent.line, "POST /v1/chat/completions HTTP/1.1");
    assert!(sent.headers.contains("authorization: bearer sk-secret"));
    let mut body = sent.body.clone();
    let system = body["messages"][0]["content"].take();
    let system = system.as_str().unwrap();
    assert!(
        system.starts_with("INSTRUCTIONS\n") && system.contains("- overall_score (integer from 0 to 100): How good a lead"),
        "{system}"
    );
    let schema = body["response_format"]["json_schema"]["schema"].take();
    assert_eq!(schema, assessment::schema(Call::Core, Tier::Light));
    let expected = json!({
        "model": "gpt-6-luna",
        "messages": [
            {"role": "system", "content": null}, {"role": "user", "content": "BUSINESS\n\nPROFILE"}
        ],
        "max_completion_tokens": 2500, "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": schema["title"], "schema": null, "strict": true}}
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_truncated_answer_is_requested_with_a_larger_budget() {
    let outcome = answer_in_chat(vec![completion("length", &said("{")), completion("stop", &said(&light().to_string()))]).await;
    assert_eq!(outcome.result.unwrap().output, light());
    assert_eq!(outcome.openai[1].body["max_completion_tokens"], 5000);
}

#[tokio::test]
async fn refusals_and_failures_mean_the_same_as_in_the_other_api() {
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I cannot."});
    for (scripts, expected) in [
        (vec![completion("stop", &refusal)], ModelError::Declined),
        (vec![completion("content_filter", &said(""))], ModelError::Declined),
        (vec![completion("stop", &said("no JSON")), completion("stop", &said("nor this"))], ModelError::InvalidOutput),
        (vec![openai_error(401, "invalid_request_error", "invalid_api_key"); 2], ModelError::Rejected),
        (vec![openai_error(429, "rate_limit_error", "rate_limit_exceeded")], ModelError::Unavailable),
    ] {
        assert_eq!(answer_in_chat(scripts).await.result.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn errors_of_any_form_are_read() {
    for (body, expected) in [
        (json!({"error": {"code": 400, "message": "@jane", "type": null}}), "the request was rejected with 400 (400)"),
        (json!({"error": "model not found"}), "the request was rejected with 400 (no code)"),
        (json!([1]), "the request was rejected with 400 (no code)"),
    ] {
        let outcome = answer_in_chat(vec![Script::json(400, &body)]).await;
        assert_eq!(outcome.summary(), (Some(ModelError::Rejected), vec![(OpenAi, Some(expected))]));
    }
}

#[test]
fn only_the_two_supported_apis_have_names() {
    assert_eq!("chat".parse(), Ok(OpenAiApi::Chat));
    assert_eq!("responses".parse(), Ok(OpenAiApi::default()));
    assert!("Chat".parse::<OpenAiApi>().is_err());
}
