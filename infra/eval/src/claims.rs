//! Statements of an answer that contradict the profile it is about.

use serde_json::Value;

use crate::cases::Case;

/// Returns the statements that contradict the profile: a phrase that the case calls false, or a number of followers that is off by more than a
/// tenth.
pub(crate) fn contradictions(case: &Case, output: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    collect(output, &mut texts);
    let text = texts.join("\n").to_lowercase();
    let mut found: Vec<String> = case.false_phrases.iter().filter(|phrase| text.contains(&phrase.to_lowercase())).cloned().collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.windows(2) {
        // Bounds such as "below 10,000 followers" are not statements about this profile's number.
        if pair[1].starts_with("followers")
            && let Some(number) = number(pair[0])
            && number.abs_diff(case.followers) * 10 > case.followers.unsigned_abs()
            && !is_bound(&words, pair[0])
        {
            found.push(pair.join(" "));
        }
    }
    found
}

fn is_bound(words: &[&str], number: &str) -> bool {
    let before = words.iter().position(|word| *word == number).and_then(|at| at.checked_sub(1)).and_then(|at| words.get(at));
    before.is_some_and(|word| ["below", "above", "under", "over", "to", "than", "least", "most"].contains(word))
}

fn collect<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, into)),
        _ => {}
    }
}

/// Reads `12,300`, `12.3k` and `1.9m`.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
fn number(word: &str) -> Option<i64> {
    let plain = word.trim_matches(|c: char| !c.is_alphanumeric()).replace(',', "");
    let (digits, unit) = match plain.strip_suffix('k') {
        Some(digits) => (digits, 1e3),
        None => plain.strip_suffix('m').map_or((plain.as_str(), 1.0), |digits| (digits, 1e6)),
    };
    digits.parse::<f64>().ok().map(|number| (number * unit).round() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cases::Cases;

    #[test]
    fn false_phrases_and_wrong_numbers_are_found_and_right_ones_are_not() {
        let cases = Cases::read().unwrap();
        let case = cases.find("old.zen.studio").unwrap(); // 2,600 followers
        let found = |text: &str| contradictions(case, &json!({"summary_text": "x", "key_strengths": [text]}));
        assert_eq!(found("Posts daily and well."), ["posts daily"]);
        assert_eq!(found("It has 26,000 followers."), ["26,000 followers."]);
        for text in ["2,600 followers.", "About 2.6k followers", "below 10,000 followers", "loyal followers", "No post for a year."] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }
}
