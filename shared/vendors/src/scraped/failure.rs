//! Items that report an error instead of a profile.

use serde_json::Value;

use crate::ScrapeOutcome;

/// Whether an item reports an error. Some items report the absence of one: as an empty value, or as a text.
pub(super) fn has_error(item: &Value) -> bool {
    match &item["error"] {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(words(text).join(" ").as_str(), "" | "none" | "null" | "false" | "undefined" | "no error"),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Returns the outcome of an item with an error. Only `not_found` says that there is no such profile, and not if it is explained as a
/// restriction by age or country. `no_items` means empty or private.
pub(super) fn failure(item: &Value) -> ScrapeOutcome {
    let of = |key: &str| words(item[key].as_str().unwrap_or_default());
    let error = of("error");
    if is_restricted(&error) || is_restricted(&of("errorDescription")) {
        return ScrapeOutcome::Restricted;
    }
    match error.join(" ").as_str() {
        "not found" | "page not found" | "user not found" | "profile not found" | "account not found" => ScrapeOutcome::NotFound,
        _ => ScrapeOutcome::Blocked,
    }
}

/// Whether an error is that the profile is private.
pub(super) fn is_private(item: &Value) -> bool {
    let error = words(item["error"].as_str().unwrap_or_default()).join(" ");
    matches!(
        error.as_str(),
        "private" | "private profile" | "private account" | "profile private" | "profile is private" | "account is private"
    )
}

fn is_restricted(words: &[String]) -> bool {
    let denies = |word: &String| matches!(word.as_str(), "not" | "non" | "no" | "never");
    words.iter().enumerate().any(|(at, word)| word == "restricted" && !at.checked_sub(1).is_some_and(|before| denies(&words[before])))
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}
