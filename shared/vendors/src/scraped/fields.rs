//! Fields of an item under each of their names, and values that are written in several ways.

use oslira_domain::text::is_hidden;
use reqwest::Url;
use serde_json::Value;

const MAX_URL: usize = 2048;

/// Returns the first of the fields that has a value.
pub(super) fn field<'a>(item: &'a Value, names: &[&str]) -> &'a Value {
    names.iter().map(|name| &item[*name]).find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

/// Returns what a flag says. `None` if it says neither.
pub(super) fn flag(value: &Value) -> Option<bool> {
    let text = match value {
        Value::Bool(flag) => return Some(*flag),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return None,
    };
    match text.as_str() {
        "true" | "yes" | "1" | "1.0" => Some(true),
        "false" | "no" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// Returns an id or a name, which may be written as a number.
pub(super) fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| (1..=64).contains(&text.len())),
        // A number with a fraction or an exponent has lost digits.
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a web address, with a scheme in lower case. People omit the scheme, and Instagram accepts that. Others, such as `javascript:`, are left
/// out, because clients make links of them. So is one that is too long, and a text that is no address.
pub(super) fn web_address(value: &Value) -> Option<String> {
    let shown: String = value.as_str()?.chars().filter(|c| !is_hidden(*c) && *c != '\n').collect();
    let text = shown.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        _ => ("https", text.strip_prefix("//").or_else(|| has_host(text).then_some(text))?),
    };
    let address = format!("{scheme}://{rest}");
    let is_valid = address.len() <= MAX_URL && !rest.starts_with('/') && Url::parse(&address).is_ok_and(|url| url.has_host());
    is_valid.then_some(address)
}

/// Whether a text without a scheme begins with the name of a host: a number, a sentence and a mail address do not.
fn has_host(text: &str) -> bool {
    let host = text.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
    let ending = host.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(|ending| ending.chars().count() >= 2 && ending.starts_with(char::is_alphabetic))
        && !text.contains(char::is_whitespace)
        && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_says_yes_no_or_nothing() {
        for value in [json!(true), json!("true"), json!(" TRUE"), json!("Yes"), json!(1), json!(1.0), json!("1")] {
            assert_eq!(flag(&value), Some(true), "{value}");
        }
        for value in [json!(false), json!("False"), json!("no"), json!(0), json!("0")] {
            assert_eq!(flag(&value), Some(false), "{value}");
        }
        for value in [json!(null), json!(""), json!("maybe"), json!(2), json!([true]), json!({})] {
            assert_eq!(flag(&value), None, "{value}");
        }
    }

    #[test]
    fn an_address_is_kept_with_its_scheme() {
        for (text, expected) in [
            ("https://nike.example/", "https://nike.example/"),
            (" http://nike.example/a?b=c#d ", "http://nike.example/a?b=c#d"),
            ("HTTPS://Nike.example/Path", "https://Nike.example/Path"),
            ("Http://nike.example", "http://nike.example"),
            ("linktr.ee/nike", "https://linktr.ee/nike"),
            ("www.nike.example", "https://www.nike.example"),
            ("nike.example:8080/x?at=10:30", "https://nike.example:8080/x?at=10:30"),
            ("//nike.example/x", "https://nike.example/x"),
            ("münchen.example/straße", "https://münchen.example/straße"),
            ("https://nike.example/\u{202e}gnp.exe", "https://nike.example/gnp.exe"),
            ("\u{feff}https://ni\u{200b}ke.example\u{200e}", "https://nike.example"),
            ("https://nike.example/👩\u{200d}🍳", "https://nike.example/👩\u{200d}🍳"),
        ] {
            assert_eq!(web_address(&json!(text)).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_web_address_is_left_out() {
        for text in [
            "",
            " ",
            "None",
            "null",
            "javascript:alert(1)",
            "JAVASCRIPT://nike.example/%0aalert(1)",
            "data:text/html,x",
            "mailto:a@nike.example",
            "a@nike.example",
            "tel:+4912345",
            "ftp://nike.example",
            "intent://nike.example",
            "https://",
            "https:///nike.example",
            "http://a b.example",
            "1.5",
            "v2.0",
            "10.11.2026",
            "Opening soon. Stay tuned",
            "soon...",
            "/nike",
            "java\u{0}script:alert(1)",
            "nike",
            "x.y",
        ] {
            assert_eq!(web_address(&json!(text)), None, "{text}");
        }
        assert_eq!([web_address(&json!(7)), web_address(&json!(null)), web_address(&json!(["https://nike.example"]))], [None, None, None]);
    }
}
