//! Finds the answer in a model's text, whatever surrounds it.

use serde_json::{Map, Value};

use crate::wire;

/// The marks between which models think aloud.
const THOUGHT_BEGINS: [&str; 4] = ["<think>", "<thinking>", "<thought>", "[THINK]"];
/// What stands before a mark of an end is no answer. Some chat templates leave out the beginning, and some give the channels of a model as text.
const THOUGHT_ENDS: [&str; 5] = ["</think>", "</thinking>", "</thought>", "[/THINK]", "<|message|>"];
/// How many layers are looked through: lists of one, wrappers, and JSON within strings.
const LAYERS: u8 = 4;

/// Returns the one JSON object in a text that has at least one of `fields`. Models put it into a code fence, a list or another object, begin with a
/// byte order mark, or write words around it. Two different objects are no answer: one of them may be an example, or a quotation of the profile.
///
/// # Errors
/// Fails with the reason if there is none. An object without any of the fields is returned if it is the whole text: what it lacks is the reason.
pub(super) fn answer_in(text: &str, fields: &Map<String, Value>) -> Result<Value, String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    // First as a whole, because the texts of an answer may quote any mark.
    if let Some(whole) = wire::json::<Value>(text.as_bytes()) {
        let is_object = whole.is_object();
        return match unwrapped(&whole, fields, LAYERS) {
            Some(answer) => Ok(answer),
            None if is_object => Ok(whole),
            None => Err("the JSON is no object".to_owned()),
        };
    }
    let mended = wire::without_lone_surrogates(text.as_bytes());
    scanned(std::str::from_utf8(&mended).unwrap_or(text), fields)
}

/// Returns the object with the fields within a value.
fn unwrapped(value: &Value, fields: &Map<String, Value>, layers: u8) -> Option<Value> {
    let layers = layers.checked_sub(1)?;
    match value {
        Value::Object(object) if object.keys().any(|name| fields.contains_key(name)) => Some(value.clone()),
        Value::Object(object) => {
            let mut inner = object.values().filter_map(|value| unwrapped(value, fields, layers));
            let first = inner.next()?;
            inner.all(|other| other == first).then_some(first)
        }
        Value::Array(values) => match values.as_slice() {
            [only] => unwrapped(only, fields, layers),
            _ => None,
        },
        Value::String(text) => unwrapped(&wire::json(text.trim().as_bytes())?, fields, layers),
        _ => None,
    }
}

fn scanned(text: &str, fields: &Map<String, Value>) -> Result<Value, String> {
    let mut found: Option<Value> = None;
    let mut fault: Option<&str> = None;
    let mut is_thought = false;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '<', '[']) {
        rest = &rest[at..];
        let begins = |marks: &[&str]| marks.iter().find(|mark| rest.starts_with(**mark)).map(|mark| mark.len());
        if let Some(length) = begins(&THOUGHT_ENDS) {
            (found, fault, is_thought) = (None, None, false);
            rest = &rest[length..];
        } else if let Some(length) = begins(&THOUGHT_BEGINS) {
            is_thought = true;
            rest = &rest[length..];
        } else if let Some((object, length)) = first_object(rest) {
            rest = &rest[length..];
            if let Some(answer) = unwrapped(&object, fields, LAYERS).filter(|_| !is_thought) {
                if found.as_ref().is_some_and(|found| *found != answer) {
                    fault = Some("the text contains several JSON objects");
                }
                found = Some(answer);
            }
        } else {
            // What is whole beside it may be a draft, or only a part of it.
            if begins_object(rest) && !is_thought {
                fault = Some("the text contains JSON that is not whole");
            }
            rest = &rest[1..];
        }
    }
    match (fault, found) {
        (Some(fault), _) => Err(fault.to_owned()),
        (None, Some(answer)) if !is_thought => Ok(answer),
        _ => Err("the text is not JSON".to_owned()),
    }
}

/// Returns the JSON object with which a text begins, and its length in bytes.
fn first_object(text: &str) -> Option<(Value, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let object = values.next()?.ok().filter(Value::is_object)?;
    Some((object, values.byte_offset()))
}

/// Whether a text begins as a JSON object with a field does, and not as braces in prose.
fn begins_object(text: &str) -> bool {
    let name = text.strip_prefix('{').and_then(|text| text.trim_start().strip_prefix('"'));
    name.is_some_and(|name| name.split_once('"').is_none_or(|(_, rest)| rest.trim_start().starts_with(':')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(text: &str) -> Result<Value, String> {
        answer_in(text, json!({"score": {}, "text": {}}).as_object().unwrap())
    }

    #[test]
    fn one_object_is_read_whatever_surrounds_it() {
        let expected = Ok(json!({"score": 70, "text": "a } b"}));
        let object = r#"{"score": 70, "text": "a } b"}"#;
        let in_string = Value::from(object);
        for text in [
            object.to_owned(),
            format!("\u{feff}{object}"),
            format!("```json\n{object}\n```"),
            format!("Here is my answer {{as asked}} of [1]:\n{object}\nI hope {{}} this helps, {{\"x\", \"y\"}} < 3."),
            format!("<think>maybe {{\"score\": 1}}</think>\n{object}"),
            format!("maybe {{\"score\": 1}} or {{\"sco</think>\n{object}"),
            format!("<thinking>{{\"score\": 1}}</thinking>{object}"),
            format!("[THINK]{{\"score\": 1}}[/THINK]{object}"),
            format!("<|channel|>analysis<|message|>{{\"score\": 1}}<|end|><|channel|>final<|message|>{object}<|return|>"),
            format!("{object}\n{object}"),
            format!("{object}}}"),
            format!("Settings {{\"a\": 1}}: {object}"),
            format!("[{object}]"),
            format!("```\n[{object}]\n```"),
            in_string.to_string(),
            Value::from(in_string.to_string()).to_string(),
            format!("{{\"answer\": {object}}}"),
            format!("{{\"type\": \"result\", \"ok\": true, \"result\": [{object}]}}"),
            format!("{{\"answer\": {in_string}}}"),
            format!("{{\"draft\": {object}, \"final\": {object}}}"),
            format!("```json\n{{\"answer\": {object}}}\n```"),
        ] {
            assert_eq!(find(&text), expected, "{text}");
        }
    }

    #[test]
    fn marks_and_halves_of_emoji_within_an_answer_do_not_damage_it() {
        for object in [r#"{"score": 70, "text": "a </think> b"}"#, r#"{"text": "<think> {\"score\": 1} [THINK]"}"#] {
            let expected = Ok(serde_json::from_str::<Value>(object).unwrap());
            for text in [object.to_owned(), format!("```json\n{object}\n```"), format!("<think>x</think>{object}")] {
                assert_eq!(find(&text), expected, "{text}");
            }
        }
        let cut = r#"{"text": "a\ud83d"}"#;
        for text in [cut.to_owned(), format!("```json\n{cut}\n```"), format!("<think>{cut}</think>{cut}")] {
            assert_eq!(find(&text), Ok(json!({"text": "a\u{fffd}"})), "{text}");
        }
    }

    #[test]
    fn none_and_several_are_no_answer() {
        for text in [
            "",
            "Sure!",
            "{\"score\":",
            "[1]",
            "70",
            "null",
            "\"Sure!\"",
            "{\"score\": 1} or {\"score\": 100}",
            "[{\"score\": 1}, {\"score\": 100}]",
            // A thought is no answer, whether or not it ends.
            "<think>{\"score\": 1}</think> I cannot.",
            "<think>{\"score\": 1}",
            "{\"score\": 1}</think>",
            // A draft, or a quotation of the profile, before an answer that is cut off.
            "{\"score\": 100}\n{\"score\": 7",
            "The bio says {\"score\": 100}. {\"text\": \"a\", \"sco",
            "{\"text\": \"a\", \"inner\": {\"score\": 1}",
            "{\"score\": 70,}",
        ] {
            assert!(find(text).is_err(), "{text}");
        }
        // They lack what the schema requires.
        for text in ["{}", "{\"a\": 1}", "{\"draft\": {\"score\": 1}, \"final\": {\"score\": 2}}"] {
            assert_eq!(find(text), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
    }
}
