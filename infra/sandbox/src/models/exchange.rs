//! One call to a model: authentication, faults, the answer and its price.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;

use super::answers;
use super::cache::PromptCache;
use super::protocol::{Answer, Caching, Dialect, Question, Refusal, Stop, tokens_of};
use crate::bill::Tokens;
use crate::calls::{OpenCall, Owed};
use crate::faults::{Fault, INJECTED};
use crate::profiles::Person;
use crate::seed::{Choices, hash};
use crate::shared::Shared;
use crate::wire;

/// The state of both model vendors: the prompts that they cache.
#[derive(Debug)]
pub(crate) struct Models {
    pub(crate) shared: Arc<Shared>,
    prompts: PromptCache,
}

impl Models {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, prompts: PromptCache::default() }
    }

    /// Empties the prompt caches.
    pub(crate) fn forget_prompts(&self) {
        self.prompts.clear();
    }
}

/// Handles one call to a model, from the request to the response.
pub(crate) async fn exchange<D: Dialect>(models: &Models, headers: &HeaderMap, body: Bytes) -> Response {
    let decompressed = wire::decompressed(headers, body.clone());
    let text = decompressed.as_ref().cloned().unwrap_or(body);
    let call = models.shared.calls.begin(D::VENDOR, D::OP, text.clone());
    let refuse = |call: OpenCall, outcome: &str, refusal: &Refusal| {
        call.close(refusal.status, outcome, true);
        let mut response = D::write_error(refusal);
        D::add_headers(&mut response, Duration::ZERO);
        response
    };
    match D::credential(headers) {
        Some(credential) if models.shared.accepts(D::VENDOR, credential) => {}
        credential => {
            let start = credential.map(|key| key.chars().take(7).collect::<String>()).unwrap_or_default();
            let message =
                if credential.is_none() { "No API key provided.".to_owned() } else { format!("Incorrect API key provided: {start}***.") };
            let refusal = Refusal { status: 401, message, code: Some("invalid_api_key".to_owned()), ..Refusal::default() };
            return refuse(call, "unauthorized", &refusal);
        }
    }
    let request: Value = match decompressed.map_err(|_| ()).and_then(|bytes| serde_json::from_slice(&bytes).map_err(|_| ())) {
        Ok(request) if wire::is_json(headers) => request,
        _ => return refuse(call, "rejected", &Refusal::invalid("We could not parse the JSON body of your request.", None, None)),
    };
    let handles = std::str::from_utf8(&text).map(|text| models.shared.handles_in(text)).unwrap_or_default();
    call.note(|call| {
        call.model = request["model"].as_str().map(str::to_owned);
        call.handles.clone_from(&handles);
    });
    let question = match D::read_question(headers, &request) {
        Ok(question) => question,
        Err(refusal) => return refuse(call, "rejected", &refusal),
    };
    call.note(|call| call.schema.clone_from(&question.schema_title));

    let fault = models.shared.faults.take(D::VENDOR, D::OP, &text);
    let took = models.shared.faults.call_time(D::VENDOR, &text);
    wire::pause(took).await;
    match &fault {
        Some(Fault::Status { status, retry_after, error_type, code }) => {
            let refusal = Refusal {
                status: *status,
                message: INJECTED.to_owned(),
                kind: error_type.clone(),
                param: None,
                code: code.clone(),
                retry_after: *retry_after,
            };
            return refuse(call, &format!("status_{status}"), &refusal);
        }
        Some(Fault::Disconnect) => {
            call.disconnect();
            return wire::disconnect();
        }
        Some(Fault::Hang { seconds }) => wire::pause(Duration::from_secs_f64(*seconds)).await,
        _ => {}
    }

    let (answer, outcome) = answer(models, &question, handles.first().map(String::as_str), fault.as_ref());
    call.note(|call| {
        call.tokens = Some(answer.tokens);
        call.owed = Owed::MicroUsd(question.model.price(answer.tokens, answer.one_hour));
    });
    let value = D::write_answer(&request, &answer);
    let mut response = if fault == Some(Fault::TruncatedJson) {
        call.close(200, "truncated_json", false);
        wire::half_json(200, &value)
    } else {
        call.close(200, outcome, true);
        wire::json(200, &value)
    };
    D::add_headers(&mut response, took);
    response
}

/// Writes the answer to a question, or the one that a fault asks for, with its outcome for the call log.
fn answer(models: &Models, question: &Question, handle: Option<&str>, fault: Option<&Fault>) -> (Answer, &'static str) {
    let person = handle.map_or_else(|| Person::of(&format!("reader{}", hash(question.prompt.as_bytes()) % 10_000)), Person::of);
    let mut draw = Choices::of(&person.handle).aspect(question.schema_title.as_deref().unwrap_or("prose"));
    let regular = match &question.schema {
        Some(schema) => answers::answer(schema, &person),
        None => Value::String(answers::prose(&person, &mut draw)),
    };
    let as_text = |answer: Value| answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    let (mut text, mut stop, mut outcome) = match fault {
        Some(Fault::Refusal) => (Some("I'm sorry, but I can't help with that request.".to_owned()), Stop::Refused, "refusal"),
        Some(Fault::NotJson) => (Some(answers::prose(&person, &mut draw)), Stop::Done, "not_json"),
        Some(Fault::Empty) => (None, Stop::Done, "empty"),
        Some(Fault::SchemaViolation) => (Some(as_text(answers::broken(regular))), Stop::Done, "schema_violation"),
        Some(Fault::Fenced) => (Some(format!("\u{feff}Here it is:\n```json\n{}\n```", as_text(regular))), Stop::Done, "fenced"),
        Some(Fault::ResponseFailed { .. }) => (None, Stop::Done, "response_failed"),
        Some(Fault::MaxTokens) => (Some(as_text(regular)), Stop::Budget, "max_tokens"),
        _ => (Some(as_text(regular)), Stop::Done, "ok"),
    };
    let reasoning = match (question.effort.as_str(), stop) {
        (_, Stop::Refused) | ("none", _) => 0,
        ("minimal", _) => draw.between(16, 64),
        ("low", _) => draw.between(64, 192),
        ("high", _) => draw.between(500, 900),
        ("xhigh", _) => draw.between(900, 1_600),
        ("max", _) => draw.between(1_600, 3_000),
        _ => draw.between(192, 448),
    };
    let whole = text.as_deref().map_or(0, tokens_of);
    let mut tokens = Tokens { output: whole + reasoning, reasoning, ..Tokens::default() };
    if stop == Stop::Budget || tokens.output > question.budget {
        (stop, outcome) = (Stop::Budget, "max_tokens");
        // An injected truncation leaves half of the text and still reports the whole budget as used.
        let reasoning = reasoning.min(question.budget);
        let room = (question.budget - reasoning).min(whole / 2);
        tokens = Tokens { output: question.budget, reasoning: question.budget - room, ..Tokens::default() };
        text = text.filter(|_| room > 0).map(|text| text.chars().take(usize::try_from(room * 4).unwrap_or(0)).collect());
    }
    models.prompts.count(question, &mut tokens);
    let one_hour = matches!(question.caching, Caching::Marked { one_hour: true, .. });
    let id = match fault {
        Some(Fault::ResponseId { id }) => Some(id.clone()),
        _ => None,
    };
    let failure = match fault {
        Some(Fault::ResponseFailed { code }) => {
            tokens = Tokens::default();
            Some(code.clone())
        }
        _ => None,
    };
    let has_commentary = fault == Some(&Fault::Commentary);
    (Answer { model_name: question.model_name.clone(), text, stop, tokens, one_hour, id, has_commentary, failure }, outcome)
}
