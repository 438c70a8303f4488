//! Reads the answer in a model's text.

use oslira_domain::{Call, assessment};
use serde_json::Value;

use super::outgoing::{Finding, Names};
use crate::exchange::Question;
use crate::wire;

/// Returns the answer in a model's text: the fields of its question, tidied.
///
/// A message to the lead is sent as it is, and a scraped profile must not decide where it leads: with a link, a number or another person's handle it
/// is no answer. In the other texts, which only the user reads, such a word is replaced.
///
/// # Errors
/// Fails with the reason when there is no answer in the text, or it does not fit its schema. The reason contains none of the text.
pub fn read_answer(question: &Question, text: &str) -> Result<Value, String> {
    let answer = only_object(text)?;
    let mut fields = assessment::parse(question.call, question.tier, &answer).map_err(|error| error.to_string())?;
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
    Ok(Value::Object(fields))
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
        }
        .to_owned()
    }
}

/// Returns the one JSON object in a text. Models put it into a code fence, begin with a byte order mark, or write words around it. Two different
/// objects are no answer: one of them may be an example, or a quotation of the profile.
fn only_object(text: &str) -> Result<Value, String> {
    let text = text.rsplit("</think>").next().unwrap_or_default().trim_start_matches('\u{feff}').trim();
    if let Some(whole) = wire::json::<Value>(text.as_bytes()) {
        return if whole.is_object() { Ok(whole) } else { Err("the JSON is no object".to_owned()) };
    }
    let mut found: Option<Value> = None;
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        match first_object(rest) {
            Some((object, length)) => {
                if found.as_ref().is_some_and(|found| *found != object) {
                    return Err("the text contains several JSON objects".to_owned());
                }
                found = Some(object);
                rest = &rest[length..];
            }
            None => rest = &rest[1..],
        }
    }
    found.ok_or_else(|| "the text is not JSON".to_owned())
}

/// Returns the JSON object with which a text begins, and its length in bytes. Only an object with fields: prose may contain empty braces.
fn first_object(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let object = values.next()?.ok()?;
    let has_fields = object.as_object().is_some_and(|fields| !fields.is_empty());
    has_fields.then(|| (object, values.byte_offset()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_object_is_read_whatever_surrounds_it() {
        let expected = Ok(json!({"score": 70, "text": "a } b"}));
        let object = r#"{"score": 70, "text": "a } b"}"#;
        for text in [
            object.to_owned(),
            format!("\u{feff}{object}"),
            format!("```json\n{object}\n```"),
            format!("Here is my answer {{as asked}}:\n{object}\nI hope {{}} this helps."),
            format!("<think>maybe {{\"score\": 1}}</think>\n{object}"),
            format!("{object}\n{object}"),
        ] {
            assert_eq!(only_object(&text), expected, "{text}");
        }
    }

    #[test]
    fn none_and_several_are_no_answer() {
        for text in ["", "Sure!", "{\"score\":", "[1]", "70", "{\"score\": 1} or {\"score\": 100}"] {
            assert!(only_object(text).is_err(), "{text}");
        }
    }
}
