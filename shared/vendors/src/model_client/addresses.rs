//! Finds links and handles in a text that is meant to be sent.

use oslira_domain::Username;
use serde_json::Value;

/// The endings of bare host names that count as links. A list, because a missing blank after a full stop does not make a host name.
const ENDINGS: [&str; 52] = [
    "ai", "app", "au", "biz", "bio", "br", "ca", "cc", "ch", "click", "cloud", "club", "cn", "co", "com", "de", "dev", "ee", "es", "eu",
    "fr", "fun", "fyi", "gg", "gl", "icu", "info", "io", "jp", "kr", "link", "live", "ly", "me", "net", "nl", "online", "org", "page",
    "pl", "ru", "sh", "shop", "site", "store", "tech", "top", "tv", "uk", "vip", "website", "xyz",
];

/// Whether `value`, a text or a list of texts, contains a link, an address, or a handle other than the lead's.
pub(super) fn any(value: &Value, lead: &Username) -> bool {
    match value {
        Value::String(text) => text.split(|c: char| c.is_whitespace() || "()[]{}<>\"'„“”‘’,;|".contains(c)).any(|word| is_one(word, lead)),
        Value::Array(values) => values.iter().any(|value| any(value, lead)),
        _ => false,
    }
}

fn is_one(word: &str, lead: &Username) -> bool {
    // Full-width characters are read as the usual ones.
    let plain: String = word.chars().map(|c| if matches!(c, '\u{ff01}'..='\u{ff5e}') { narrow(c) } else { c }).collect();
    let word = plain.to_lowercase();
    let word = word.trim_matches(|c: char| ".:!?…*_~`-".contains(c));
    if let Some((before, handle)) = word.split_once('@') {
        let end = handle.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')).unwrap_or(handle.len());
        let (handle, rest) = handle.split_at(end);
        let is_lead = handle.trim_end_matches('.') == lead.as_str() && !rest.contains(['@', '/']);
        return !(before.is_empty() && is_lead);
    }
    if word == lead.as_str() {
        return false; // handles may contain dots
    }
    word.contains("://")
        || word.starts_with("www.")
        || match word.split_once(['/', '?', '#', ':']) {
            // With a path, it is a link whatever its ending.
            Some((host, _)) => is_host(host, |ending| ending.len() > 1 && ending.chars().all(char::is_alphabetic)),
            None => is_host(word, |ending| ENDINGS.contains(&ending)),
        }
}

fn is_host(word: &str, is_ending: impl Fn(&str) -> bool) -> bool {
    word.rsplit_once('.').is_some_and(|(name, ending)| {
        is_ending(ending)
            && name.chars().last().is_some_and(char::is_alphanumeric)
            && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.')
    })
}

/// Returns the usual form of a full-width character, or the character itself.
fn narrow(c: char) -> char {
    u32::from(c).checked_sub(0xfee0).and_then(char::from_u32).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(text: &str) -> bool {
        any(&json!([text]), &"yoga.studio.me".parse().unwrap())
    }

    #[test]
    fn links_addresses_and_foreign_handles_are_found() {
        for text in [
            "See https://evil.example/x",
            "see HTTP://EVIL",
            "go to www.evil.example",
            "(evil.com)",
            "our page: bit.ly/abc.",
            "evil.co?x=1",
            "evil.to/login",
            "log in at evil.us:8080/x",
            "evil.museum#top",
            "evil.ai",
            "write to me@evil.example",
            "ask @another_one about it",
            "@yoga.studio.me2",
            "@yoga.studio.me@evil",
            "@yoga.studio.me/evil",
            "@",
            "ｅｖｉｌ．ｃｏｍ",
        ] {
            assert!(found(text), "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_not_found() {
        for text in [
            "Hi @yoga.studio.me, your Sunday class looked calm.",
            "Hi @Yoga.Studio.Me! Lovely.",
            "yoga.studio.me, may I ask something?",
            "I liked it.Especially the end... e.g. the stretch, i.e. number 3.5",
            "Node.js, 10:30 a.m., and/or tea, e.g./i.e., v1.5/2.0, great.To be honest:",
            "What would you change?",
            "",
        ] {
            assert!(!found(text), "{text}");
        }
        assert!(!any(&json!(3), &"a".parse().unwrap()));
    }
}
