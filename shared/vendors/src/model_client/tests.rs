use oslira_credential::Credential;
use oslira_domain::{BusinessContext, Call, MicroUsd, Tier};
use serde_json::{Value, json};

use super::*;
use crate::prompt::Prompt;
use crate::stub::{Recorded, Script, Stub};

fn light() -> Value {
    json!({
        "key_strengths": ["Posts classes"], "red_flags": [], "summary_text": "Runs a studio.", "niche_fit_score": 80, "engagement_score": 55,
        "overall_score": 72, "confidence_level": 0.75, "recommended_action": "pursue"
    })
}

/// A response of the Responses API, with reasoning before the message.
fn openai_body(status: &str, part: &Value) -> Value {
    json!({
        "id": "resp_1", "object": "response", "status": status, "error": null, "incomplete_details": null,
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        ],
        "usage": {
            "input_tokens": 3000, "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 1000}, "output_tokens": 500,
            "output_tokens_details": {"reasoning_tokens": 200}, "total_tokens": 3500
        }
    })
}

fn openai_text(text: &str) -> Script {
    Script::json(200, &openai_body("completed", &json!({"type": "output_text", "text": text, "annotations": []})))
}

fn anthropic(stop_reason: &str, text: &str) -> Script {
    let body = json!({
        "id": "msg_2", "type": "message", "role": "assistant", "model": "claude-haiku-5-5", "stop_reason": stop_reason,
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": text}],
        "usage": {"input_tokens": 1000, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000, "output_tokens": 300}
    });
    Script::json(200, &body)
}

fn openai_error(status: u16, kind: &str, code: &str) -> Script {
    Script::json(status, &json!({"error": {"message": "key sk-secret of @jane", "type": kind, "param": null, "code": code}}))
}

fn anthropic_error(status: u16, kind: &str, code: Option<&str>) -> Script {
    let details = code.map(|code| json!({"error_code": code}));
    Script::json(status, &json!({"type": "error", "error": {"type": kind, "message": "@jane", "details": details}, "request_id": "req_1"}))
}

fn key(api_key: &str) -> Credential<ModelSecret> {
    secret(json!({ "api_key": api_key }))
}

fn secret(content: Value) -> Credential<ModelSecret> {
    Credential::fixed(serde_json::from_value(content).unwrap())
}

fn no_key() -> Credential<ModelSecret> {
    Credential::new(|| std::future::ready(Err(CredentialError::Missing("oslira/test/model".to_owned()))))
}

fn secrets() -> ModelSecrets {
    ModelSecrets {
        openai: secret(json!({ "api_key": "sk-secret", "headers": { "cf-aig-authorization": "Bearer gateway" } })),
        anthropic: key("sk-ant-secret"),
    }
}

struct Outcome {
    result: Result<Answer, ModelError>,
    attempts: Vec<Attempt>,
    openai: Vec<Recorded>,
    anthropic: Vec<Recorded>,
}

impl Outcome {
    /// Returns how it ended, and provider and error of each attempt.
    fn summary(&self) -> (Option<ModelError>, Vec<(Provider, Option<&str>)>) {
        let attempts = self.attempts.iter().map(|attempt| (attempt.provider, attempt.error.as_deref())).collect();
        (self.result.as_ref().err().cloned(), attempts)
    }
}

/// The question, the keys, the time limit, and the number of attempts that are allowed.
struct Setting {
    api: OpenAiApi,
    secrets: ModelSecrets,
    call: Call,
    time: Duration,
    max_attempts: usize,
    abort_after: Option<Duration>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            api: OpenAiApi::Responses,
            secrets: secrets(),
            call: Call::Core,
            time: Duration::from_mins(1),
            max_attempts: usize::MAX,
            abort_after: None,
        }
    }
}

/// The compiled-in catalogue with timeouts of a second.
fn catalogue() -> Catalogue {
    let text: Vec<String> = include_str!("../../models.toml")
        .lines()
        .map(|line| if line.starts_with("timeout_seconds") { "timeout_seconds = 1".to_owned() } else { line.to_owned() })
        .collect();
    Catalogue::parse(&text.join("\n")).unwrap()
}

async fn answer_in(setting: Setting, openai: Vec<Script>, anthropic: Vec<Script>) -> Outcome {
    let (openai, anthropic) = (Stub::new(openai).await, Stub::new(anthropic).await);
    let (first, second) = (Endpoint::new(format!("{}/v1/", openai.url)), Endpoint::new(&anthropic.url));
    let endpoints = Endpoints { openai: first, openai_api: setting.api, anthropic: second };
    let client = ModelClient::new(crate::http_client().unwrap(), endpoints, setting.secrets, catalogue());
    let prompt = Prompt { instructions: "INSTRUCTIONS".to_owned(), business: "BUSINESS".to_owned(), profile: "PROFILE".to_owned() };
    let question = Question {
        tier: if setting.call == Call::Core { Tier::Light } else { Tier::Deep },
        call: setting.call,
        lead: "yoga.studio".parse().unwrap(),
        business: BusinessContext { business_name: "Bookable.com".to_owned(), ..BusinessContext::default() },
        prompt,
        cache_key: "business-1".to_owned(),
        safety_id: "account-1".to_owned(),
    };
    let mut attempts = Vec::new();
    let record = async |attempt| {
        attempts.push(attempt);
        if attempts.len() < setting.max_attempts { Next::Continue } else { Next::Stop }
    };
    let (abort, aborted) = watch::channel(false);
    if let Some(after) = setting.abort_after {
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            abort.send(true)
        });
    }
    let result = client.answer_unless(&question, Instant::now() + setting.time, aborted, record).await;
    attempts.extend(result.as_ref().ok().map(|answer| answer.attempt.clone()));
    Outcome { result, attempts, openai: openai.requests(), anthropic: anthropic.requests() }
}

async fn answer_with(secrets: ModelSecrets, openai: Vec<Script>, anthropic: Vec<Script>) -> Outcome {
    answer_in(Setting { secrets, ..Setting::default() }, openai, anthropic).await
}

async fn answer(openai: Vec<Script>, anthropic: Vec<Script>) -> Outcome {
    answer_with(secrets(), openai, anthropic).await
}

use Provider::{Anthropic, OpenAi};

#[tokio::test]
async fn openai_is_used_first_with_the_stable_parts_first_and_a_strict_schema() {
    let outcome = answer(vec![openai_text(&light().to_string())], vec![]).await;
    let answer = outcome.result.unwrap();
    assert_eq!(answer.output, light());
    let attempt = &answer.attempt;
    assert_eq!(
        (attempt.provider, attempt.model.as_str(), attempt.status, &attempt.error),
        (OpenAi, "gpt-6-luna", AttemptStatus::Success, &None)
    );
    let tokens =
        [attempt.input_tokens, attempt.cached_input_tokens, attempt.cache_write_tokens, attempt.output_tokens, attempt.reasoning_tokens];
    assert_eq!(tokens, [3000, 1024, 1000, 500, 200]);
    // 976 x 0.1 + 1024 x 0.01 + 1000 x 0.125 + 500 x 0.5
    assert_eq!((attempt.cost, attempt.response_id.as_deref()), (Some(MicroUsd(483)), Some("resp_1")));

    let sent = &outcome.openai[0];
    assert_eq!(sent.line, "POST /v1/responses HTTP/1.1");
    assert!(sent.headers.contains("authorization: bearer sk-secret") && sent.headers.contains("cf-aig-authorization: bearer gateway"));
    let mut body = sent.body.clone();
    let schema = body["text"]["format"]["schema"].take();
    assert_eq!(schema, assessment::schema(Call::Core, Tier::Light));
    let expected = json!({
        "model": "gpt-6-luna", "instructions": "INSTRUCTIONS",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "BUSINESS"}, {"type": "input_text", "text": "PROFILE"}]}],
        "max_output_tokens": 2500, "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "light_core", "schema": null, "strict": true}},
        "store": false, "prompt_cache_key": "business-1", "safety_identifier": "account-1"
    });
    assert_eq!(body, expected);
    assert!(outcome.anthropic.is_empty());
}

#[tokio::test]
async fn anthropic_answers_when_openai_is_overloaded_and_the_cost_is_its_own() {
    let outcome = answer(
        vec![openai_error(503, "service_unavailable_error", "server_is_overloaded")],
        vec![anthropic("end_turn", &light().to_string())],
    )
    .await;
    assert_eq!(outcome.summary(), (None, vec![(OpenAi, Some("the vendor is overloaded or failing (503)")), (Anthropic, None)]));
    let attempt = &outcome.attempts[1];
    let tokens = [attempt.input_tokens, attempt.cached_input_tokens, attempt.cache_write_tokens, attempt.output_tokens];
    assert_eq!(tokens, [3100, 2000, 100, 300]);
    // 1000 x 0.1 + 2000 x 0.01 + 100 x 0.125 + 300 x 0.5
    assert_eq!((attempt.cost, attempt.model.as_str()), (Some(MicroUsd(283)), "claude-haiku-5-5"));
    assert_eq!(outcome.attempts[0].cost, Some(MicroUsd::ZERO));

    let sent = &outcome.anthropic[0];
    assert_eq!(sent.line, "POST /v1/messages HTTP/1.1");
    assert!(sent.headers.contains("authorization: bearer sk-ant-secret") && sent.headers.contains("anthropic-version: 2026-10-21"));
    let expected = json!({
        "model": "claude-haiku-5-5", "max_tokens": 2500,
        "system": [{"type": "text", "text": "INSTRUCTIONS", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "BUSINESS", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "PROFILE"}
        ]}],
        "output_config": {
            "format": {"type": "json_schema", "schema": assessment::without_bounds(&assessment::schema(Call::Core, Tier::Light))}, "effort": "low"
        },
        "metadata": {"user_id": "account-1"}
    });
    assert_eq!(sent.body, expected);
}

#[tokio::test]
async fn every_temporary_failure_falls_back_to_the_other_provider_and_is_retryable_if_that_fails_too() {
    let slow = Script::Respond(429, "retry-after: 7\r\n", b"{}".to_vec());
    let cases = [
        (openai_error(429, "rate_limit_error", "slow_down"), "too many requests"),
        (slow, "too many requests, retry after 7000 ms"),
        (openai_error(500, "server_error", "x"), "the vendor is overloaded or failing (500)"),
        (Script::Hang, "no response in time"),
        (Script::Close, "the connection failed (broken off)"),
        (Script::BreakOff, "the connection failed (broken off)"),
        (Script::Respond(200, "", b"{\"id\":\"resp_1\",\"sta".to_vec()), "the response is not understood: not the documented JSON"),
        (Script::json(200, &json!({"status": "failed", "error": {"code": "server_error"}})), "the vendor is overloaded or failing (200)"),
        (Script::json(200, &json!({"status": "failed", "error": {"code": "rate_limit_exceeded"}})), "too many requests"),
        (Script::json(200, &json!({"status": "queued"})), "the response is not understood: neither completed nor failed"),
        (
            Script::json(200, &json!({"status": "incomplete", "incomplete_details": {"reason": "steered"}})),
            "the response is not understood: incomplete for an unknown reason",
        ),
    ];
    for (script, error) in cases {
        let outcome = answer(vec![script], vec![anthropic_error(529, "overloaded_error", None)]).await;
        let tries = vec![(OpenAi, Some(error)), (Anthropic, Some("the vendor is overloaded or failing (529)"))];
        assert_eq!(outcome.summary(), (Some(ModelError::Unavailable), tries));
        let timeout = if error.contains("in time") { AttemptStatus::Timeout } else { AttemptStatus::Error };
        assert_eq!(outcome.attempts[0].status, timeout);
        // What a provider did whose response did not arrive whole may have been charged.
        let unknown = ["in time", "broken off", "not the documented", "overloaded or failing (200)", "neither", "unknown reason"];
        let is_unknown = unknown.iter().any(|words| error.contains(words));
        if !error.starts_with("too many") {
            assert_eq!(outcome.attempts[0].cost.is_none(), is_unknown, "{error}");
        }
    }
}

#[tokio::test]
async fn used_up_quotas_are_final() {
    let cases = [
        (429, "insufficient_quota", "credit_balance_exhausted"),
        (429, "insufficient_quota", "insufficient_quota"),
        (429, "billing", "project_spend_limit_exceeded"),
        (429, "billing", "organization_usage_limit_exceeded"),
        (402, "x", "x"),
    ];
    for (status, kind, code) in cases {
        let limit = anthropic_error(429, "rate_limit_error", Some("enforced_spend_limit_reached"));
        let outcome = answer(vec![openai_error(status, kind, code)], vec![limit]).await;
        let (ours, theirs) = (format!("the quota is used up ({code})"), "the quota is used up (enforced_spend_limit_reached)");
        assert_eq!(outcome.summary(), (Some(ModelError::Rejected), vec![(OpenAi, Some(ours.as_str())), (Anthropic, Some(theirs))]));
    }
    for limit in ["enforced_spend_limit_reached", "contract_spend_limit_reached"] {
        let outcome = answer(vec![openai_error(404, "x", "x")], vec![anthropic_error(429, "rate_limit_error", Some(limit))]).await;
        assert_eq!(outcome.summary().1[1].1, Some(format!("the quota is used up ({limit})").as_str()));
    }
    let outcome =
        answer(vec![openai_error(400, "invalid_request_error", "invalid_json_schema")], vec![anthropic_error(402, "billing_error", None)])
            .await;
    assert_eq!(outcome.summary().0, Some(ModelError::Rejected));
    let outcome = answer(
        vec![openai_error(404, "x", "model_not_found")],
        vec![anthropic_error(429, "rate_limit_error", Some("ramp_limit_exceeded"))],
    )
    .await;
    assert_eq!(outcome.summary().0, Some(ModelError::Unavailable));
}

#[tokio::test]
async fn a_refusal_of_either_provider_is_final() {
    let refusal = openai_body("completed", &json!({"type": "refusal", "refusal": "I will not judge @jane"}));
    let mut filtered = openai_body("incomplete", &json!({"type": "output_text", "text": "{"}));
    filtered["incomplete_details"] = json!({"reason": "content_filter"});
    for body in [refusal, filtered] {
        let outcome = answer(vec![Script::json(200, &body)], vec![]).await;
        assert_eq!(outcome.summary(), (Some(ModelError::Declined), vec![(OpenAi, Some("the model declined"))]));
        assert!(outcome.anthropic.is_empty() && outcome.attempts[0].cost > Some(MicroUsd::ZERO));
    }
    for code in ["invalid_prompt", "bio_policy", "misalignment_policy_violation"] {
        let failed =
            Script::json(200, &json!({"id": "resp_2", "status": "failed", "error": {"code": code, "message": "@jane"}, "usage": null}));
        for script in [failed, openai_error(400, "invalid_request_error", code)] {
            let outcome = answer(vec![script], vec![]).await;
            assert_eq!(outcome.summary(), (Some(ModelError::Declined), vec![(OpenAi, Some("the model declined"))]), "{code}");
        }
    }
    let outcome = answer(vec![Script::Close], vec![anthropic("refusal", "")]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Declined));
}

#[tokio::test]
async fn an_abort_drops_the_request_in_flight_and_its_cost_is_unknown() {
    let setting = Setting { abort_after: Some(Duration::from_millis(100)), ..Setting::default() };
    let clock = Instant::now();
    let outcome = answer_in(setting, vec![Script::Hang], vec![anthropic("end_turn", &light().to_string())]).await;
    assert_eq!(outcome.summary(), (Some(ModelError::Stopped), vec![(OpenAi, Some("aborted, because the run has ended"))]));
    assert!(clock.elapsed() < Duration::from_millis(900) && outcome.anthropic.is_empty());
    assert_eq!((outcome.attempts[0].cost, outcome.attempts[0].status), (None, AttemptStatus::Error));
}

#[tokio::test]
async fn an_overload_of_the_second_attempt_falls_back_too() {
    let outcome = answer(vec![openai_text("{}"), openai_error(500, "x", "x")], vec![anthropic("end_turn", &light().to_string())]).await;
    assert_eq!((outcome.result.is_ok(), outcome.attempts.len()), (true, 3));
    let outcome = answer(vec![Script::Close], vec![anthropic("tool_use", "")]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Unavailable));
}

#[tokio::test]
async fn a_refused_key_is_renewed_and_a_provider_that_refuses_that_too_is_left_out() {
    let refusal = || openai_error(401, "invalid_request_error", "invalid_api_key");
    let refused = (OpenAi, Some("the credential was refused"));
    let outcome = answer(vec![refusal(), openai_text(&light().to_string())], vec![]).await;
    assert_eq!(outcome.summary(), (None, vec![refused, (OpenAi, None)]));
    let outcome = answer(vec![refusal(), refusal()], vec![anthropic("end_turn", &light().to_string())]).await;
    assert_eq!(outcome.summary(), (None, vec![refused, refused, (Anthropic, None)]));
    let refusals = || anthropic_error(401, "authentication_error", None);
    let outcome = answer(vec![refusal(), refusal()], vec![refusals(), refusals()]).await;
    assert_eq!((outcome.summary().0, outcome.attempts.len()), (Some(ModelError::Rejected), 4));
    let outcome = answer(vec![Script::Close], vec![refusals(), refusals()]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Unavailable));
}

#[tokio::test]
async fn a_provider_without_a_key_is_not_used() {
    let without_openai = ModelSecrets { openai: no_key(), ..secrets() };
    let outcome = answer_with(without_openai, vec![], vec![anthropic("end_turn", &light().to_string())]).await;
    assert_eq!((outcome.summary(), outcome.openai.len()), ((None, vec![(Anthropic, None)]), 0));
    let without_anthropic = ModelSecrets { anthropic: no_key(), ..secrets() };
    let outcome = answer_with(without_anthropic.clone(), vec![Script::Close], vec![]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Unavailable));
    let outcome = answer_with(without_anthropic, vec![openai_error(400, "x", "x")], vec![]).await;
    assert_eq!(outcome.summary().0, Some(ModelError::Rejected));
    // Secrets Manager may have failed for a moment: that is no reason to fail a run.
    let outcome = answer_with(ModelSecrets { openai: no_key(), anthropic: no_key() }, vec![], vec![]).await;
    assert_eq!(outcome.summary(), (Some(ModelError::Credential(CredentialError::Missing("oslira/test/model".to_owned()))), vec![]));
}

#[tokio::test]
async fn nothing_that_is_logged_contains_a_key_or_the_text_of_others() {
    let words = light().to_string().replace("Runs a studio.", "").replace("pursue", "@jane");
    let cases = [
        vec![openai_error(401, "x", "key of @jane")],
        vec![openai_error(400, "@jane", "@jane")],
        vec![openai_text(&words), openai_text(&words)],
    ];
    for scripts in cases {
        let outcome = answer(scripts, vec![anthropic_error(400, "@jane", Some("@jane"))]).await;
        let error = outcome.result.unwrap_err();
        let logged = format!("{error} {error:?} {:?} {:?}", outcome.attempts, secrets());
        assert!(!logged.contains("secret") && !logged.contains("jane"), "{logged}");
    }
}

#[tokio::test]
async fn no_attempt_starts_that_could_not_end_in_time() {
    let answers = || vec![openai_text(&light().to_string())];
    let outcome = answer_in(Setting { time: Duration::from_millis(900), ..Setting::default() }, answers(), vec![]).await;
    assert_eq!((outcome.summary(), outcome.openai.len()), ((Some(ModelError::Unavailable), vec![]), 0));
    // There is time for one attempt of a second that hangs, not for the other provider's.
    let setting = Setting { time: Duration::from_millis(1500), ..Setting::default() };
    let outcome = answer_in(setting, vec![Script::Hang], vec![anthropic("end_turn", &light().to_string())]).await;
    assert_eq!(outcome.summary(), (Some(ModelError::Unavailable), vec![(OpenAi, Some("no response in time"))]));
    assert!(outcome.anthropic.is_empty());
}

#[tokio::test]
async fn the_caller_can_stop_the_next_attempt() {
    let setting = Setting { max_attempts: 1, ..Setting::default() };
    let outcome = answer_in(setting, vec![openai_text("{}"), openai_text(&light().to_string())], vec![]).await;
    assert_eq!((outcome.summary().0, outcome.attempts.len(), outcome.openai.len()), (Some(ModelError::Stopped), 1, 1));
    assert_eq!(outcome.attempts[0].cost, Some(MicroUsd(483)));
}

#[test]
fn effort_is_sent_only_where_it_is_understood() {
    let question = Question {
        tier: Tier::Light,
        call: Call::Core,
        lead: "yoga.studio".parse().unwrap(),
        business: BusinessContext::default(),
        prompt: Prompt { instructions: String::new(), business: String::new(), profile: String::new() },
        cache_key: String::new(),
        safety_id: String::new(),
    };
    let schema = json!({});
    let bodies = |effort| {
        let limit = crate::OutputLimit::MaxTokens;
        let request = Request { model: "m", effort, max_output_tokens: 300, limit, question: &question, schema: &schema };
        [openai::body(&request), crate::chat::body(&request), anthropic::body(&request)]
    };
    let [responses, completions, messages] = bodies(Some(crate::Effort::None));
    assert_eq!((&responses["reasoning"], &completions["reasoning_effort"]), (&json!({"effort": "none"}), &json!("none")));
    assert_eq!((messages.get("thinking"), &messages["output_config"]["effort"]), (None, &json!("low")));
    assert_eq!((&completions["max_tokens"], completions.get("max_completion_tokens")), (&json!(300), None));
    let [responses, completions, messages] = bodies(None);
    assert!(responses.get("reasoning").is_none() && completions.get("reasoning_effort").is_none());
    assert!(messages["output_config"].get("effort").is_none());
}

mod answers;
mod chat;
mod shapes;

#[test]
fn headers_of_a_secret_are_read_and_not_shown() {
    let read = |headers: Value| serde_json::from_value::<ModelSecret>(json!({ "api_key": "k", "headers": headers }));
    let secret = read(json!({ "cf-aig-authorization": "Bearer gateway" })).unwrap();
    assert_eq!(secret.headers["cf-aig-authorization"], "Bearer gateway");
    assert!(!format!("{secret:?}").contains("gateway"), "{secret:?}");
    for wrong in [json!({ "a b": "c" }), json!({ "a": "b\nc" }), json!({ "a": 1 }), json!(["a"])] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
    assert!(serde_json::from_value::<ModelSecret>(json!({ "api_key": "k" })).unwrap().headers.is_empty());
}
