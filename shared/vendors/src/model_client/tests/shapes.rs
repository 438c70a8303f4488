//! Responses of other shapes than the APIs document, as compatible servers and gateways send them: what is good in them is used, whatever
//! stands around it, and a cost is right or unknown.

use super::*;

/// What a response led to: the model's own word for the failure, or `None` for an answer, and the cost of the first attempt.
type Expected = (Option<&'static str>, Option<i64>);

const UNKNOWN: Option<i64> = None;

/// Checks what each response leads to, as the only one that the provider gives.
async fn check(api: OpenAiApi, provider: Provider, cases: Vec<(&str, Value, Expected)>) {
    for (name, body, (error, cost)) in cases {
        let script = vec![Script::json(200, &body)];
        let (openai, anthropic, without) = match provider {
            OpenAi => (script, vec![], ModelSecrets { anthropic: no_key(), ..secrets() }),
            Anthropic => (vec![], script, ModelSecrets { openai: no_key(), ..secrets() }),
        };
        let outcome = answer_in(Setting { api, secrets: without, ..Setting::default() }, openai, anthropic).await;
        let first = outcome.attempts.first().unwrap_or_else(|| panic!("{name}: {:?}", outcome.result));
        assert_eq!((first.error.as_deref(), first.cost.map(|cost| cost.0)), (error, cost), "{name}");
        if error.is_none() {
            assert_eq!(outcome.result.map(|answer| answer.output), Ok(light()), "{name}");
        }
    }
}

fn good() -> String {
    light().to_string()
}

/// Returns the answer in two parts.
fn halves() -> [String; 2] {
    let mut first = good();
    let second = first.split_off(100);
    [first, second]
}

const DECLINED: &str = "the model declined";
const CUT: &str = "the answer did not fit into its budget";
const NOT_JSON: &str = "the text is not JSON";
const NO_TEXT: &str = "the response has no text";

fn part(text: &Value) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn refuse(text: &Value) -> Value {
    json!({"type": "refusal", "refusal": text})
}

fn message(phase: Option<&str>, content: &Value) -> Value {
    json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": phase, "content": content})
}

fn text_message(phase: Option<&str>, text: &str) -> Value {
    message(phase, &json!([part(&json!(text))]))
}

/// 976 x 0.1 + 1024 x 0.01 + 1000 x 0.125 + 500 x 0.5
const RESPONSE_COST: Option<i64> = Some(483);

fn response(output: &Value, changes: &Value) -> Value {
    let mut body = openai_body("completed", &Value::Null);
    body["output"] = output.clone();
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn responses_of_any_shape() {
    let good = || text_message(None, &good());
    let last = |text: &str| text_message(Some("final_answer"), text);
    let same = json!({});
    let [first, second] = halves();
    let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}});
    let filtered = json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}});
    let failed = |code: Value| json!({"status": "failed", "error": {"code": code, "message": "@jane"}, "usage": null});
    let whole = || json!([good()]);
    let ok = (None, RESPONSE_COST);
    let cases = vec![
        ("a message after the answer", response(&json!([good(), text_message(None, "Done. Anything else?")]), &same), ok),
        ("a message before the answer", response(&json!([text_message(None, "I look at it."), good()]), &same), ok),
        ("divided over messages", response(&json!([text_message(None, &first), text_message(None, &second)]), &same), ok),
        ("divided over final answers", response(&json!([last(&first), last(&second)]), &same), ok),
        ("divided over parts", response(&json!([message(None, &json!([part(&json!(first)), part(&json!(second))]))]), &same), ok),
        ("an empty final answer at the end", response(&json!([last(&light().to_string()), last("")]), &same), ok),
        ("a message without content at the end", response(&json!([good(), message(None, &json!([]))]), &same), ok),
        ("content as text", response(&json!([message(None, &json!(light().to_string()))]), &same), ok),
        ("a part of null", response(&json!([message(None, &json!([part(&json!(null)), part(&json!(light().to_string()))]))]), &same), ok),
        ("odd items", response(&json!([null, 1, {"id": "x"}, {"type": "reasoning", "content": "hm"}, {"type": 7}, good()]), &same), ok),
        ("an empty refusal", response(&json!([message(None, &json!([part(&json!(light().to_string())), refuse(&json!(""))]))]), &same), ok),
        (
            "a refusal in a commentary",
            response(&json!([message(Some("commentary"), &json!([refuse(&json!("Not that."))])), good()]), &same),
            ok,
        ),
        ("a refusal beside the answer", response(&json!([good(), message(None, &json!([refuse(&json!("Not that."))]))]), &same), ok),
        ("truncated and whole", response(&whole(), &cut), ok),
        ("without a status", response(&whole(), &json!({"status": null})), ok),
        ("without messages", response(&json!([]), &json!({"output_text": light().to_string()})), ok),
        ("an empty error", response(&whole(), &json!({"error": {"code": null, "message": ""}})), ok),
        ("an id that is a number", response(&whole(), &json!({"id": 7})), ok),
        (
            "usage of the other API",
            response(&whole(), &json!({"usage": {"prompt_tokens": 3000, "completion_tokens": 500}})),
            (None, Some(550)),
        ),
        ("usage null", response(&whole(), &json!({"usage": null})), (None, UNKNOWN)),
        ("usage without tokens", response(&whole(), &json!({"usage": {}})), (None, UNKNOWN)),
        ("usage of another type", response(&whole(), &json!({"usage": "3000"})), (None, UNKNOWN)),
        ("negative usage", response(&whole(), &json!({"usage": {"input_tokens": -5, "output_tokens": -9}})), (None, UNKNOWN)),
        ("an answer of no tokens", response(&whole(), &json!({"usage": {"input_tokens": 3000, "output_tokens": 0}})), (None, UNKNOWN)),
        ("truncated", response(&json!([text_message(None, &first)]), &cut), (Some(CUT), RESPONSE_COST)),
        (
            "a draft and a truncated answer",
            response(&json!([text_message(None, &format!("{}\n{first}", light()))]), &cut),
            (Some(CUT), RESPONSE_COST),
        ),
        ("withdrawn", response(&whole(), &filtered), (Some(DECLINED), RESPONSE_COST)),
        ("only a refusal", response(&json!([message(None, &json!([refuse(&json!(""))]))]), &same), (Some(DECLINED), RESPONSE_COST)),
        (
            "only a refusal in a commentary",
            response(&json!([message(Some("commentary"), &json!([refuse(&json!("No."))]))]), &same),
            (Some(DECLINED), RESPONSE_COST),
        ),
        (
            "an answer in a commentary",
            response(&json!([text_message(Some("commentary"), &light().to_string())]), &same),
            (Some(NO_TEXT), RESPONSE_COST),
        ),
        ("no output", response(&json!(null), &same), (Some(NO_TEXT), RESPONSE_COST)),
        ("a draft before a final answer", response(&json!([good(), last("Sorry.")]), &same), (Some(NOT_JSON), RESPONSE_COST)),
        ("output null with an error", response(&json!(null), &failed(json!("invalid_prompt"))), (Some(DECLINED), UNKNOWN)),
        (
            "failed with an answer",
            response(&whole(), &failed(json!("server_error"))),
            (Some("the vendor is overloaded or failing (200)"), UNKNOWN),
        ),
        ("failed with a status", response(&json!(null), &failed(json!(402))), (Some("the quota is used up (402)"), Some(0))),
        (
            "failed with a text",
            response(&json!(null), &json!({"status": "failed", "error": "exploded", "usage": null})),
            (Some("the vendor is overloaded or failing (200)"), UNKNOWN),
        ),
    ];
    check(OpenAiApi::Responses, OpenAi, cases).await;
}

/// 3000 x 0.1 + 500 x 0.5
const COMPLETION_COST: Option<i64> = Some(550);

fn completion(message: &Value, finish_reason: &Value, usage: &Value) -> Value {
    json!({"id": 7, "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage})
}

#[tokio::test]
async fn completions_of_any_shape() {
    let usage = || json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 3500});
    let said = |content: &Value, refusal: &Value| json!({"role": "assistant", "content": content, "refusal": refusal});
    let whole = || said(&json!(good()), &json!(null));
    let stop = json!("stop");
    let ok = (None, COMPLETION_COST);
    let of = |message: &Value| completion(message, &json!("stop"), &usage());
    let [first, second] = halves();
    let error = |code: Value| json!({"error": {"code": code, "message": "@jane"}, "user_id": "u"});
    let mut cases = vec![
        ("parts", of(&said(&json!([{"type": "text", "text": first}, {"type": "text", "text": second}]), &json!(null))), ok),
        (
            "parts with thinking",
            of(&said(&json!([{"type": "thinking", "thinking": [{"text": "{"}]}, {"type": "text", "text": good()}]), &json!(null))),
            ok,
        ),
        ("refusal false", of(&said(&json!(good()), &json!(false))), ok),
        ("refusal empty", of(&said(&json!(good()), &json!(""))), ok),
        ("a refusal beside the answer", of(&said(&json!(good()), &json!("Not health."))), ok),
        ("truncated and whole", completion(&whole(), &json!("length"), &usage()), ok),
        ("an older API", json!({"choices": [{"text": good(), "finish_reason": "stop"}], "usage": usage()}), ok),
        ("two choices", json!({"choices": [{"message": said(&json!("No."), &json!(null))}, {"message": whole()}], "usage": usage()}), ok),
        ("an empty error", json!({"choices": [{"message": whole()}], "usage": usage(), "error": {}}), ok),
        ("usage without tokens", completion(&whole(), &stop, &json!({})), (None, UNKNOWN)),
        ("usage of zeros", completion(&whole(), &stop, &json!({"prompt_tokens": 0, "completion_tokens": 0})), (None, UNKNOWN)),
        ("usage of nulls", completion(&whole(), &stop, &json!({"prompt_tokens": null, "completion_tokens": null})), (None, UNKNOWN)),
        ("usage null", completion(&whole(), &stop, &json!(null)), (None, UNKNOWN)),
        ("usage of the other API", completion(&whole(), &stop, &json!({"input_tokens": 3000, "output_tokens": 500})), ok),
        (
            "reasoning beside the completion",
            completion(
                &whole(),
                &stop,
                &json!({"prompt_tokens": 3000, "completion_tokens": 500, "total_tokens": 5900, "completion_tokens_details": {"reasoning_tokens": 2400}}),
            ),
            (None, Some(1750)),
        ),
        (
            "negative details",
            completion(
                &whole(),
                &stop,
                &json!({"prompt_tokens": 3000, "completion_tokens": 500, "prompt_tokens_details": {"cached_tokens": -1}}),
            ),
            (None, UNKNOWN),
        ),
        ("truncated", completion(&said(&json!(first), &json!(null)), &json!("MAX_TOKENS"), &usage()), (Some(CUT), COMPLETION_COST)),
        ("withdrawn", completion(&whole(), &json!("content_filter"), &usage()), (Some(DECLINED), COMPLETION_COST)),
        ("a refusal part", of(&said(&json!([refuse(&json!("I cannot."))]), &json!(null))), (Some(DECLINED), COMPLETION_COST)),
        (
            "only thoughts",
            of(&json!({"role": "assistant", "content": null, "reasoning_content": good()})),
            (Some(NO_TEXT), COMPLETION_COST),
        ),
        ("no choice", json!({"choices": null, "usage": usage()}), (Some("the response is not understood: no choice"), COMPLETION_COST)),
        ("a list", json!([1]), (Some("the response is not understood: not the documented JSON"), UNKNOWN)),
        ("credits of a gateway", error(json!(402)), (Some("the quota is used up (402)"), Some(0))),
        ("its limit", error(json!("429")), (Some("too many requests"), Some(0))),
        ("its key", error(json!(401)), (Some("the credential was refused"), Some(0))),
        ("its request", error(json!(400)), (Some("the request was rejected with 400 (400)"), Some(0))),
        ("its provider's failure", error(json!(502)), (Some("the vendor is overloaded or failing (502)"), UNKNOWN)),
        ("its provider's silence", error(json!(408)), (Some("the vendor is overloaded or failing (408)"), UNKNOWN)),
        ("a named error", error(json!("insufficient_quota")), (Some("the quota is used up (insufficient_quota)"), UNKNOWN)),
        ("an unnamed error", json!({"error": "@jane"}), (Some("the vendor is overloaded or failing (200)"), UNKNOWN)),
        (
            "an error with usage",
            json!({"error": {"code": 502}, "choices": [], "usage": usage()}),
            (Some("the vendor is overloaded or failing (502)"), COMPLETION_COST),
        ),
    ];
    for reason in
        [json!("eos"), json!(null), json!("STOP"), json!("end_turn"), json!("stop_sequence"), json!(""), json!("tool_calls"), json!(1)]
    {
        cases.push(("the reason of the end", completion(&whole(), &reason, &usage()), ok));
    }
    for reason in [json!("eos"), json!(null), json!("STOP")] {
        cases.push(("prose", completion(&said(&json!("Sure!"), &json!(null)), &reason, &usage()), (Some(NOT_JSON), COMPLETION_COST)));
    }
    check(OpenAiApi::Chat, OpenAi, cases).await;
}

/// 1000 x 0.1 + 2000 x 0.01 + 100 x 0.125 + 300 x 0.5
const MESSAGE_COST: Option<i64> = Some(283);

#[tokio::test]
async fn messages_of_any_shape() {
    let message = |content: &Value, stop_reason: &Value, usage: &Value| json!({"id": "msg_2", "type": "message", "role": "assistant", "content": content, "stop_reason": stop_reason, "usage": usage});
    let usage = || json!({"input_tokens": 1000, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000, "output_tokens": 300});
    let of = |content: &Value| message(content, &json!("end_turn"), &usage());
    let text = |text: &str| json!({"type": "text", "text": text, "citations": null});
    let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "@jane"}});
    let [first, second] = halves();
    let whole = || json!([text(&good())]);
    let ok = (None, MESSAGE_COST);
    check(
        OpenAiApi::Responses,
        Anthropic,
        vec![
            ("a text of null", of(&json!([{"type": "text", "text": null}, text(&good())])), ok),
            (
                "unknown blocks",
                of(&json!([{"type": "redacted_thinking", "data": "z"}, {"type": 7}, null, {"thinking": "x"}, text(&good())])),
                ok,
            ),
            ("words before the answer", of(&json!([text("Here it is:\n"), text(&good())])), ok),
            ("divided over blocks", of(&json!([text(&first), text(&second)])), ok),
            ("content as text", of(&json!(good())), ok),
            ("paused", message(&whole(), &json!("pause_turn"), &usage()), ok),
            ("without a reason", message(&whole(), &json!(null), &usage()), ok),
            ("truncated and whole", message(&whole(), &json!("max_tokens"), &usage()), ok),
            ("usage null", message(&whole(), &json!("end_turn"), &json!(null)), (None, UNKNOWN)),
            ("input null", message(&whole(), &json!("end_turn"), &json!({"input_tokens": null, "output_tokens": 300})), (None, UNKNOWN)),
            (
                "the names of the other API",
                message(&whole(), &json!("end_turn"), &json!({"prompt_tokens": 3000, "completion_tokens": 500})),
                (None, COMPLETION_COST),
            ),
            ("withdrawn", message(&whole(), &json!("refusal"), &usage()), (Some(DECLINED), MESSAGE_COST)),
            ("truncated", message(&json!([text(&first)]), &json!("max_tokens"), &usage()), (Some(CUT), MESSAGE_COST)),
            ("no block", of(&json!([])), (Some(NO_TEXT), MESSAGE_COST)),
            ("content null", of(&json!(null)), (Some(NO_TEXT), MESSAGE_COST)),
            ("an overload", error("overloaded_error"), (Some("the vendor is overloaded or failing (200)"), UNKNOWN)),
            ("a refused key", error("authentication_error"), (Some("the credential was refused"), UNKNOWN)),
            ("no money", error("billing_error"), (Some("the quota is used up (billing_error)"), UNKNOWN)),
            ("a gateway's error", json!({"error": {"code": 402, "message": "@jane"}}), (Some("the quota is used up (no code)"), Some(0))),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_id_that_is_a_number_is_recorded() {
    let outcome = answer(vec![Script::json(200, &response(&json!([text_message(None, &good())]), &json!({"id": 7})))], vec![]).await;
    assert_eq!(outcome.attempts[0].response_id.as_deref(), Some("7"));
}

#[tokio::test]
async fn a_message_that_tidying_leaves_nothing_of_is_no_answer() {
    let script = |message: &str, angles: Value| openai_text(&json!({"outreach_message": message, "outreach_angles": angles}).to_string());
    let setting = || Setting { call: Call::Outreach, ..Setting::default() };
    for message in ["\u{1f44b}\u{2728}", "\u{1f44b} - \u{2728}", "\u{1f44b}!", "N/A"] {
        let outcome = answer_in(setting(), vec![script(message, json!(["a"])), script("Hi.", json!(["a"]))], vec![]).await;
        assert_eq!((outcome.result.is_ok(), outcome.attempts.len()), (true, 2), "{message}");
        let why = outcome.attempts[0].error.as_deref();
        assert_eq!(why, Some("the answer to `outreach` does not fit its schema at `outreach_message`"));
    }
    let outcome = answer_in(setting(), vec![script("Hi \u{1f44b}", json!(["\u{1f44b}", "The class"]))], vec![]).await;
    assert_eq!(outcome.result.unwrap().output, json!({"outreach_message": "Hi", "outreach_angles": ["The class"]}));
}

#[tokio::test]
async fn wrapped_answers_cost_no_second_call() {
    let good = good();
    for text in [
        format!("[{good}]"),
        Value::from(good.as_str()).to_string(),
        format!("{{\"answer\": {good}}}"),
        format!("{{\"light_core\": {good}, \"done\": true}}"),
        format!("<think>{{\"overall_score\": 1}}</think>{good}"),
    ] {
        let outcome = answer(vec![openai_text(&text)], vec![]).await;
        assert_eq!((outcome.result.map(|answer| answer.output), outcome.attempts.len()), (Ok(light()), 1), "{text}");
    }
    let mut quoting = light();
    quoting["summary_text"] = json!("Quotes </think> in a caption.");
    let outcome = answer(vec![openai_text(&quoting.to_string())], vec![]).await;
    assert_eq!(outcome.result.map(|answer| answer.output), Ok(quoting));
}
