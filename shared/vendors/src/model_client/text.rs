//! Reads the answer in a model's text.

use oslira_domain::{Call, assessment};
use serde_json::Value;

use super::found::answer_in;
use super::outgoing::{Finding, Names};
use crate::exchange::{Failure, Question};
use crate::reading::Output;

/// Returns the answer in the first text of an output that contains one.
///
/// # Errors
/// Without an answer, fails with what the response says about itself, or else with the reason that concerns the likeliest text.
pub(super) fn read_output(question: &Question, output: Output) -> Result<Value, Failure> {
    let mut reason = None;
    for text in &output.texts {
        match read_answer(question, text) {
            Ok(answer) => return Ok(answer),
            Err(why) => _ = reason.get_or_insert(why),
        }
    }
    Err(output.otherwise.unwrap_or_else(|| Failure::Malformed(reason.unwrap_or_else(|| "the response has no text".to_owned()))))
}

/// Returns the answer in a model's text: the fields of its question, tidied.
///
/// A message to the lead is sent as it is, and a scraped profile must not decide where it leads: with a link, a number or another person's handle it
/// is no answer. Neither is one with a placeholder, or longer than the schema allows. In the other texts, which only the user reads, such a word is replaced.
///
/// # Errors
/// Fails with the reason when there is no answer in the text, or it does not fit its schema. The reason contains none of the text.
pub fn read_answer(question: &Question, text: &str) -> Result<Value, String> {
    let schema = assessment::schema(question.call, question.tier);
    let answer = schema["properties"].as_object().map_or_else(|| Err("no schema".to_owned()), |fields| answer_in(text, fields))?;
    let parse = |answer: &Value| assessment::parse(question.call, question.tier, answer).map_err(|error| error.to_string());
    let mut fields = parse(&answer)?;
    let names = Names::of(question);
    for value in fields.values_mut() {
        if question.call == Call::Outreach {
            each_text(value, &mut |text| {
                *text = names.tidied(text);
                names.find(text).map_or(Ok(()), |finding| Err(finding.complaint()))
            })?;
        } else {
            each_text(value, &mut |text| {
                *text = names.masked(text);
                Ok(())
            })?;
        }
    }
    // A message of emoji only is tidied to nothing.
    parse(&Value::Object(fields)).map(Value::Object)
}

fn each_text(value: &mut Value, change: &mut impl FnMut(&mut String) -> Result<(), String>) -> Result<(), String> {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => values.iter_mut().try_for_each(|value| each_text(value, change)),
        _ => Ok(()),
    }
}

impl Finding {
    fn complaint(self) -> String {
        match self {
            Self::Link => "the message contains a link or an address",
            Self::Handle => "the message contains another person's handle",
            Self::Number => "the message contains a telephone number",
            Self::Placeholder => "the message contains a placeholder",
            Self::Length => "the message is too long",
        }
        .to_owned()
    }
}
