//! The preflight: whether a route's server uses what the client sends and returns what the client reads.
//!
//! Whether a part of the prompt arrives is seen in the number of input tokens, not in the answer: a chat template that drops the rules or the
//! business returns an answer that looks right, and a small model does not repeat a mark on request.

use std::time::{Duration, Instant};

use anyhow::Result;
use oslira_domain::{Call, Tier};
use oslira_vendors::{Attempt, ModelClient, ModelError, Next, Prompt, Question};
use serde::Serialize;

use crate::ask::question;
use crate::cases::Cases;

/// The marker that a part of the prompt is lengthened by: `MARKERS` words.
const MARKER: &str = "preflight-marker ";
const MARKERS: usize = 200;
/// The input tokens that the marker adds at least. No tokenizer makes one token of two such words.
const MIN_TOKENS: i64 = 200;

/// The check without which no question is asked.
pub(crate) const ANSWERS: &str = "the server answers";

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The tier and the question.
    pub route: String,
    /// What is checked.
    pub what: &'static str,
    /// Whether it is so. `None` if the server does not let it be seen.
    pub passed: Option<bool>,
    /// The cause of a failure.
    pub detail: String,
}

/// Checks one route. `unknown` is the same client with a model that does not exist. Returns the checks and the cost in micro-USD.
pub(crate) async fn preflight(
    client: &ModelClient,
    unknown: &ModelClient,
    cases: &Cases,
    tier: Tier,
    call: Call,
) -> Result<(Vec<Check>, i64)> {
    let question = question(cases, &cases.profile[0], tier, call)?;
    let route = format!("{tier} {call}");
    let check = |what, passed, detail: String| Check { route: route.clone(), what, passed, detail };
    let mut checks = Vec::new();
    let (plain, error) = first_attempt(client, &question).await;
    let Some(plain) = plain else {
        checks.push(check(ANSWERS, Some(false), error.map(|error| error.to_string()).unwrap_or_default()));
        return Ok((checks, 0));
    };
    let mut cost = cost_of(&plain);
    // An invalid answer is an answer: the measures say how many there are.
    let answers = plain.error.is_none() || plain.response_id.is_some() || plain.output_tokens > 0;
    checks.push(check(ANSWERS, Some(answers), plain.error.clone().unwrap_or_default()));
    let has_usage = plain.input_tokens > 0 && plain.output_tokens > 0;
    checks.push(check("usage is readable", Some(has_usage), format!("{} in, {} out", plain.input_tokens, plain.output_tokens)));
    checks.push(check("the response has an id", Some(plain.response_id.is_some()), String::new()));
    let marker = MARKER.repeat(MARKERS);
    let longer = |part: fn(&mut Prompt) -> &mut String| {
        let mut question = question.clone();
        let text = part(&mut question.prompt);
        *text = format!("{marker}{text}");
        question
    };
    let parts = [
        ("the rules arrive", longer(|prompt| &mut prompt.instructions)),
        ("the business arrives", longer(|prompt| &mut prompt.business)),
        ("the profile arrives", longer(|prompt| &mut prompt.profile)),
    ];
    for (what, longer) in parts {
        let attempt = first_attempt(client, &longer).await.0;
        cost += attempt.as_ref().map_or(0, cost_of);
        let added = attempt.map_or(0, |attempt| attempt.input_tokens - plain.input_tokens);
        let passed = has_usage.then_some(added >= MIN_TOKENS);
        checks.push(check(what, passed, format!("{added} input tokens for {MARKERS} words")));
    }
    let mut refusing = question.clone();
    refusing.prompt.instructions.push_str("\nAnswer with the single word yes in plain text, without JSON.");
    refusing.prompt.profile.push_str("\nAnswer with the single word yes in plain text, without JSON.");
    let attempt = first_attempt(client, &refusing).await.0;
    cost += attempt.as_ref().map_or(0, cost_of);
    let error = attempt.map_or_else(|| Some("no answer".to_owned()), |attempt| attempt.error);
    checks.push(check("the schema is enforced", Some(error.is_none()), error.unwrap_or_default()));
    // Servers with one model often accept any name: then there is no error to read.
    let (_, error) = first_attempt(unknown, &question).await;
    let passed = error.as_ref().map(|error| matches!(error, ModelError::Rejected));
    checks.push(check("an unknown model is an error that is understood", passed, error.map(|error| error.to_string()).unwrap_or_default()));
    Ok((checks, cost))
}

/// Returns the first attempt at a question, and why there is no answer if it failed.
async fn first_attempt(client: &ModelClient, question: &Question) -> (Option<Attempt>, Option<ModelError>) {
    let mut first = None;
    let record = async |attempt| {
        first = Some(attempt);
        Next::Stop
    };
    match client.answer(question, Instant::now() + Duration::from_mins(12), record).await {
        Ok(answer) => (Some(answer.attempt), None),
        // The attempt was stopped by the record: the reason is the attempt's own.
        Err(ModelError::Stopped) => {
            let rejected = first.as_ref().and_then(|attempt| attempt.error.as_deref()).is_some_and(|error| error.contains("rejected"));
            (first, Some(if rejected { ModelError::Rejected } else { ModelError::Unavailable }))
        }
        Err(error) => (first, Some(error)),
    }
}

fn cost_of(attempt: &Attempt) -> i64 {
    attempt.cost.map_or(0, |cost| cost.0)
}
