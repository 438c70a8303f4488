//! What both model vendors have in common: admitting a call, writing the answer, counting its tokens, breaking it on demand.

mod answers;
mod cache;
mod phrases;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::Value;

use crate::app::App;
use crate::bill::{Model, Tokens};
use crate::calls::{OpenCall, Owed, Vendor};
use crate::faults::Fault;
use crate::profiles::Person;
use crate::seed::{Choices, hash};
use crate::wire;
pub(crate) use cache::PromptCache;
pub(crate) use schema::{Rules, check as check_schema};

/// A question to a model, whatever the wire format.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) model: &'static Model,
    /// The model as the request names it.
    pub(crate) model_name: String,
    /// The schema that the answer must follow; prose without one.
    pub(crate) schema: Option<Value>,
    /// The schema's title or name.
    pub(crate) schema_title: Option<String>,
    /// All of the prompt in the order in which the vendor caches it.
    pub(crate) prompt: String,
    pub(crate) caching: Caching,
    /// Output tokens, reasoning included.
    pub(crate) budget: i64,
    /// Reasoning effort; `none` for none.
    pub(crate) effort: String,
}

/// How the vendor caches prompts.
#[derive(Debug)]
pub(crate) enum Caching {
    /// The longest common prefix with an earlier prompt of the same key.
    Implicit { key: String },
    /// Up to marked ends (bytes into the prompt).
    Marked { ends: Vec<usize>, one_hour: bool },
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Done,
    Budget,
    Refused,
}

/// A model's answer, whatever the wire format.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) model_name: String,
    /// No text at all: reasoning used up the budget, or the model had nothing to say.
    pub(crate) text: Option<String>,
    pub(crate) stop: Stop,
    pub(crate) tokens: Tokens,
    /// Cache writes live an hour.
    pub(crate) one_hour: bool,
}

/// An error in no particular vendor's words.
#[derive(Debug, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) kind: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>, param: Option<&str>, code: Option<&str>) -> Self {
        Self { status: 400, message: message.into(), param: param.map(str::to_owned), code: code.map(str::to_owned), ..Self::default() }
    }
}

/// One vendor's way to ask and to answer.
pub(crate) trait Dialect {
    const VENDOR: Vendor;
    const OP: &'static str;

    /// Reads a request.
    ///
    /// # Errors
    /// As the vendor would refuse it.
    fn ask(headers: &HeaderMap, request: &Value) -> Result<Ask, Refusal>;
    /// Writes an answer to that request.
    fn answer(request: &Value, reply: &Reply) -> Value;
    /// Writes an error.
    fn error(refusal: &Refusal) -> Response;
    /// Adds the headers of every answer.
    fn dress(response: &mut Response, took: Duration);
    /// The credential of a request.
    fn credential(headers: &HeaderMap) -> Option<&str>;
}

/// Answers a model call from its first byte to its last.
pub(crate) async fn exchange<D: Dialect>(app: &Arc<App>, headers: &HeaderMap, body: Bytes) -> Response {
    let unpacked = wire::unpacked(headers, body.clone());
    let text = unpacked.as_ref().cloned().unwrap_or(body);
    let call = app.calls.begin(D::VENDOR, D::OP, text.clone());
    let refuse = |call: OpenCall, outcome: &str, refusal: &Refusal| {
        call.close(refusal.status, outcome, true);
        let mut response = D::error(refusal);
        D::dress(&mut response, Duration::ZERO);
        response
    };
    match D::credential(headers) {
        Some(credential) if app.accepts(D::VENDOR, credential) => {}
        credential => {
            let shown = credential.map(|key| key.chars().take(7).collect::<String>()).unwrap_or_default();
            let message =
                if credential.is_none() { "No API key provided.".to_owned() } else { format!("Incorrect API key provided: {shown}***.") };
            let refusal = Refusal { status: 401, message, code: Some("invalid_api_key".to_owned()), ..Refusal::default() };
            return refuse(call, "unauthorized", &refusal);
        }
    }
    let request: Value = match unpacked.map_err(|_| ()).and_then(|bytes| serde_json::from_slice(&bytes).map_err(|_| ())) {
        Ok(request) if wire::is_json(headers) => request,
        _ => return refuse(call, "rejected", &Refusal::invalid("We could not parse the JSON body of your request.", None, None)),
    };
    let handles = std::str::from_utf8(&text).map(|text| app.handles_in(text)).unwrap_or_default();
    call.note(|call| {
        call.model = request["model"].as_str().map(str::to_owned);
        call.handles.clone_from(&handles);
    });
    let ask = match D::ask(headers, &request) {
        Ok(ask) => ask,
        Err(refusal) => return refuse(call, "rejected", &refusal),
    };
    call.note(|call| call.schema.clone_from(&ask.schema_title));

    let fault = app.faults.take(D::VENDOR, D::OP, &text);
    let took = app.faults.call_time(D::VENDOR, &text);
    wire::pause(took).await;
    match &fault {
        Some(Fault::Status { status, retry_after, error_type, code }) => {
            let refusal = Refusal {
                status: *status,
                message: "The stand-in was told to answer this.".to_owned(),
                kind: error_type.clone(),
                param: None,
                code: code.clone(),
                retry_after: *retry_after,
            };
            return refuse(call, &format!("status_{status}"), &refusal);
        }
        Some(Fault::Disconnect) => {
            call.cut();
            return wire::disconnect();
        }
        Some(Fault::Hang { seconds }) => wire::pause(Duration::from_secs_f64(*seconds)).await,
        _ => {}
    }

    let (reply, outcome) = reply(app, &ask, handles.first().map(String::as_str), fault.as_ref());
    call.note(|call| {
        call.tokens = Some(reply.tokens);
        call.owed = Owed::MicroUsd(ask.model.price(reply.tokens, reply.one_hour));
    });
    let value = D::answer(&request, &reply);
    let mut response = if fault == Some(Fault::TruncatedJson) {
        call.close(200, "truncated_json", false);
        wire::half_json(200, &value)
    } else {
        call.close(200, outcome, true);
        wire::json(200, &value)
    };
    D::dress(&mut response, took);
    response
}

/// Tokens of a text, near enough: four characters each.
pub(crate) fn tokens_of(text: &str) -> i64 {
    i64::try_from(text.chars().count().div_ceil(4)).unwrap_or(i64::MAX)
}

/// Thinks, and answers or fails as told.
fn reply(app: &App, ask: &Ask, handle: Option<&str>, fault: Option<&Fault>) -> (Reply, &'static str) {
    let person = handle.map_or_else(|| Person::of(&format!("reader{}", hash(ask.prompt.as_bytes()) % 10_000)), Person::of);
    let mut draw = Choices::of(&person.handle).aspect(ask.schema_title.as_deref().unwrap_or("prose"));
    let usual = match &ask.schema {
        Some(schema) => answers::answer(schema, &person),
        None => Value::String(answers::prose(&person, &mut draw)),
    };
    let written = |answer: Value| answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    let (mut text, mut stop, mut outcome) = match fault {
        Some(Fault::Refusal) => (Some("I'm sorry, but I can't help with that request.".to_owned()), Stop::Refused, "refusal"),
        Some(Fault::NotJson) => (Some(answers::prose(&person, &mut draw)), Stop::Done, "not_json"),
        Some(Fault::Empty) => (None, Stop::Done, "empty"),
        Some(Fault::SchemaViolation) => (Some(written(answers::broken(usual))), Stop::Done, "schema_violation"),
        Some(Fault::MaxTokens) => (Some(written(usual)), Stop::Budget, "max_tokens"),
        _ => (Some(written(usual)), Stop::Done, "ok"),
    };
    let reasoning = match (ask.effort.as_str(), stop) {
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
    if stop == Stop::Budget || tokens.output > ask.budget {
        (stop, outcome) = (Stop::Budget, "max_tokens");
        // An ordered truncation shows half of the text; the budget is then said to be used up all the same.
        let reasoning = reasoning.min(ask.budget);
        let room = (ask.budget - reasoning).min(whole / 2);
        tokens = Tokens { output: ask.budget, reasoning: ask.budget - room, ..Tokens::default() };
        text = text.filter(|_| room > 0).map(|text| text.chars().take(usize::try_from(room * 4).unwrap_or(0)).collect());
    }
    app.prompts.count(ask, &mut tokens);
    let one_hour = matches!(ask.caching, Caching::Marked { one_hour: true, .. });
    (Reply { model_name: ask.model_name.clone(), text, stop, tokens, one_hour }, outcome)
}
