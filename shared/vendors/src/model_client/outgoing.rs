//! Links, handles and numbers in the texts of models. A scraped profile must not lead a reader anywhere through them.

use oslira_domain::text::folded;
use serde_json::{Value, json};

use crate::exchange::Question;

/// What a text must not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// A link, a host name or an email address.
    Link,
    /// A handle that is not the lead's.
    Handle,
    /// A telephone number.
    Number,
}

/// The names that a text may contain although they look like links: the lead's handle, and the host names in what the business says of itself.
pub(super) struct Names {
    lead: String,
    own: Vec<String>,
}

/// Technologies whose names end like host names.
const TECHNOLOGIES: [&str; 3] = ["asp.net", "ado.net", "vb.net"];
/// Schemes of links that need no slashes.
const SCHEMES: [&str; 8] = ["tel:", "mailto:", "sms:", "whatsapp:", "tg:", "facetime:", "javascript:", "data:"];

impl Names {
    pub(super) fn of(question: &Question) -> Self {
        let mut own = Vec::new();
        collect(&json!(question.business), &mut own);
        Self { lead: question.lead.as_str().to_owned(), own }
    }

    /// Returns what the text must not contain, if it contains it.
    pub(super) fn find(&self, text: &str) -> Option<Finding> {
        let word = text.split(is_separator).find_map(|word| self.find_in_word(word));
        word.or_else(|| (!numbers(text).is_empty()).then_some(Finding::Number))
    }

    /// Returns the text with each finding replaced by a note.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        for piece in text.split_inclusive(is_separator) {
            let word = piece.trim_end_matches(is_separator);
            match self.find_in_word(word) {
                Some(Finding::Handle) => masked.push_str("(handle removed)"),
                Some(_) => masked.push_str("(link removed)"),
                None => masked.push_str(word),
            }
            masked.push_str(&piece[word.len()..]);
        }
        for (start, end) in numbers(&masked).into_iter().rev() {
            masked.replace_range(start..end, "(number removed)");
        }
        masked
    }

    /// Returns a message without what it can do without: emoji, the signs of hashtags, and full stops that make two words look like a host name.
    pub(super) fn tidied(&self, text: &str) -> String {
        let mut tidied = String::with_capacity(text.len());
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
            let is_name = bare == self.lead || self.is_own(&bare);
            let kept: Vec<char> = without_emoji(word);
            if kept.is_empty() && !word.is_empty() {
                continue; // with the blank after it
            }
            for (index, c) in kept.iter().enumerate() {
                let (before, next) = (index.checked_sub(1).map(|at| kept[at]), kept.get(index + 1).copied());
                let is_hashtag = *c == '#' && next.is_some_and(char::is_alphabetic) && !before.is_some_and(char::is_alphanumeric);
                if !is_hashtag {
                    tidied.push(*c);
                }
                let begins = next.is_some_and(char::is_uppercase) && kept.get(index + 2).is_some_and(|c| c.is_lowercase());
                if *c == '.' && !is_name && begins && before.is_some_and(char::is_alphabetic) {
                    tidied.push(' ');
                }
            }
            tidied.push_str(&piece[word.len()..]);
        }
        tidied.trim().to_owned()
    }

    fn find_in_word(&self, word: &str) -> Option<Finding> {
        // Full-width commas and brackets have become the usual ones.
        folded(word).split(is_separator).find_map(|word| self.find_in_folded(word))
    }

    fn find_in_folded(&self, word: &str) -> Option<Finding> {
        let word = word.trim_matches(|c: char| ".:!?\u{2026}*_~`-\u{b7}".contains(c));
        if let Some((before, after)) = word.split_once('@') {
            return self.find_at(before, after);
        }
        if word == self.lead || self.is_own(bare_host(word)) {
            return None; // handles and names of businesses may contain full stops
        }
        let is_link = word.contains("://")
            || word.starts_with("www.")
            || SCHEMES.iter().any(|scheme| word.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
            || is_host(bare_host(word));
        is_link.then_some(Finding::Link)
    }

    /// What stands around an at sign: an email address, a handle, or a time or place ("class @ 6pm").
    fn find_at(&self, before: &str, after: &str) -> Option<Finding> {
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')).unwrap_or(after.len());
        let (handle, rest) = after.split_at(end);
        let handle = handle.trim_end_matches('.');
        let is_time = handle.starts_with(|c: char| c.is_ascii_digit())
            && handle.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len() <= 2
            && !rest.contains(['@', '/']);
        if before.is_empty() && rest.is_empty() && (handle.is_empty() || is_time) || before.is_empty() && is_time && rest.starts_with(':') {
            return None;
        }
        if handle == self.lead && before.is_empty() && !rest.contains(['@', '/']) {
            return None;
        }
        Some(if before.is_empty() { Finding::Handle } else { Finding::Link })
    }

    fn is_own(&self, host: &str) -> bool {
        TECHNOLOGIES.contains(&host) || self.own.iter().any(|own| own == host)
    }
}

/// Collects the host names in the texts of a business.
fn collect(value: &Value, own: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let folded = folded(text);
            let words = folded.split(is_separator).map(|word| bare_host(word.trim_matches(|c: char| ".:!?*_~`".contains(c))));
            own.extend(words.filter(|host| host.contains('.')).map(str::to_owned));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, own)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, own)),
        _ => {}
    }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "()[]{}<>\"'\u{201e}\u{201c}\u{201d}\u{2018}\u{2019}\u{ab}\u{bb},;|\u{3001}".contains(c)
}

/// Returns the host of a link, without `www.`, or the word itself.
fn bare_host(word: &str) -> &str {
    let rest = word.split_once("://").map_or(word, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default();
    host.strip_prefix("www.").unwrap_or(host).trim_end_matches('.')
}

/// Whether the word is a host name: labels that end with a public suffix, or an IPv4 address.
fn is_host(word: &str) -> bool {
    let Some((name, last)) = word.rsplit_once('.') else { return false };
    if word.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let is_suffix = |text: &str| psl::suffix(text.as_bytes()).is_some_and(|suffix| suffix.is_known());
    !last.is_empty()
        && name.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_'))
        && (is_suffix(last) || is_suffix(word))
}

/// Returns the word without emoji and what joins them.
fn without_emoji(word: &str) -> Vec<char> {
    let is_emoji = |c: char| matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b05}'..='\u{2b55}' | '\u{231a}'..='\u{231b}' | '\u{23e9}'..='\u{23fa}' | '\u{20e3}' | '\u{fe0f}');
    let mut kept: Vec<char> = Vec::new();
    let mut after_emoji = false;
    for c in word.chars() {
        let joins = after_emoji && c == '\u{200d}';
        after_emoji = is_emoji(c) || joins;
        if !after_emoji {
            kept.push(c);
        }
    }
    kept
}

/// Returns where telephone numbers stand in a text, in bytes.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    let joins = |c: char| " -./()+\u{a0}\u{2010}\u{2011}\u{2013}".contains(c);
    let mut found = Vec::new();
    let mut start = None;
    let mut end = 0;
    let ends = [(text.len(), '\n')];
    for (at, c) in text.char_indices().chain(ends) {
        let apart = [" - ", " \u{2013} "].iter().any(|dash| text[at..].starts_with(dash));
        if c.is_numeric() || (c == '+' && start.is_none()) {
            start.get_or_insert(at);
            end = at + c.len_utf8();
        } else if start.is_some() && (!joins(c) || apart) {
            let run = start.take().unwrap_or_default();
            if is_number(&text[run..end]) {
                found.push((run, end));
            }
        }
    }
    found
}

/// Whether a run of digits is a telephone number, and not a date, a span of years or a large number.
fn is_number(run: &str) -> bool {
    let groups: Vec<usize> = run.split(|c: char| !c.is_numeric()).map(|group| group.chars().count()).filter(|length| *length > 0).collect();
    let digits: usize = groups.iter().sum();
    if run.starts_with('+') {
        return digits >= 7;
    }
    let is_date = matches!(groups[..], [1..=2, 1..=2, 4] | [4, 1..=2, 1..=2] | [4, 4]);
    let is_large = groups.len() > 3 && groups[0] < 3 && groups[1..].iter().all(|length| *length == 3);
    !is_date && !is_large && (digits >= 9 || (digits >= 7 && run.starts_with('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut own = Vec::new();
        collect(
            &json!({"business_name": "Bookable.com", "website": "https://www.bookable.example/start", "offering": "Courses in Vue.js"}),
            &mut own,
        );
        Names { lead: "yoga.studio.me".to_owned(), own }
    }

    #[test]
    fn links_addresses_numbers_and_foreign_handles_are_found() {
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
            "evil.us",
            "evil\u{3002}com",
            "ev\u{ad}il.com",
            "evil.co\u{ad}m",
            "evil.travel",
            "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}",
            "evil.xn--p1ai",
            "user.github.io",
            "192.168.1.7/x",
            "write to me@evil.example",
            "mailto:me",
            "tel:5551234",
            "ask @another_one about it",
            "@yoga.studio.me2",
            "@yoga.studio.me@evil",
            "@yoga.studio.me/evil",
            "\u{ff45}\u{ff56}\u{ff49}\u{ff4c}\u{ff0e}\u{ff43}\u{ff4f}\u{ff4d}",
            "evil.bookable.com",
            "Call +1 555 0100",
            "call (555) 123-4567",
            "06 12 34 56 78",
            "030/1234567",
            "\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}\u{668}\u{669}",
        ] {
            assert!(names().find(text).is_some(), "{text}");
        }
    }

    #[test]
    fn ordinary_text_and_own_names_are_not_found() {
        for text in [
            "Hi @yoga.studio.me, your Sunday class looked calm.",
            "Hi @Yoga.Studio.Me! Lovely.",
            "Hi Yoga.Studio.Me\u{2728}, lovely.",
            "yoga.studio.me, may I ask something?",
            "Hi, I am Ana from Bookable.com. We help studios fill weekday classes.",
            "More at https://bookable.com/demo, www.bookable.com or bookable.example",
            "your class @ 6pm, or @6pm, @18:30, @ home",
            "Do you use ASP.NET or Node.js?",
            "I liked it.Especially the end... e.g. the stretch, i.e. number 3.5",
            "Node.js, 10:30 a.m., and/or tea, e.g./i.e., v1.5/2.0",
            "12,500 followers, 1.200.000 views, 1 000 000 000 people, 2019-2023, on 2026-11-03 and 03.11.2026 - 05.11.2026",
            "What would you change?",
            "",
        ] {
            let tidied = names().tidied(text);
            assert_eq!(names().find(&tidied), None, "{tidied}");
        }
    }

    #[test]
    fn a_missing_blank_emoji_and_hashtags_are_mended() {
        let tidied = |text: &str| names().tidied(text);
        assert_eq!(tidied("I like your style.Me too"), "I like your style. Me too");
        assert_eq!(tidied("From St.Moritz/Davos"), "From St. Moritz/Davos");
        assert_eq!(
            tidied("Great class \u{1f9d8}\u{200d}\u{2640}\u{fe0f} today\u{2728}! #yoga rocks, #1"),
            "Great class today! yoga rocks, #1"
        );
        assert_eq!(tidied("I am with Bookable.Com"), "I am with Bookable.Com");
        assert_eq!(names().find(&tidied("I like your style.Me too, St.Moritz/Davos")), None);
    }

    #[test]
    fn in_a_report_findings_are_replaced() {
        let masked = names().masked("Sells at evil.com (ask @evil, +1 555 010 9999). Posts daily, @yoga.studio.me.");
        assert_eq!(masked, "Sells at (link removed) (ask (handle removed), (number removed)). Posts daily, @yoga.studio.me.");
    }
}
