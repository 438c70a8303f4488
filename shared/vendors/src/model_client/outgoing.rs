//! Links, handles and numbers in the texts of models. A scraped profile must not lead a reader anywhere through them.
//!
//! A text is folded once into characters that know their place in it. Each search works on these and finds spans, whatever stands around them: a host
//! name is found behind a bullet, within Chinese text and before a dash. Names that a text may contain, the lead's and the business's own, are
//! spans too.

mod links;
mod numbers;
mod sites;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use oslira_domain::assessment::MAX_MESSAGE;
use oslira_domain::text::{folded_chars, is_word};
use serde_json::{Value, json};

use self::links::{Dotted, OwnLink};
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
    /// A part that the sender has to fill in.
    Placeholder,
    /// More characters than a message may have.
    Length,
}

/// What a text may contain although it looks like a link or a number: the lead's handle, the links in what the business says of itself, and the
/// counts that the question names.
#[derive(Default)]
pub(super) struct Names {
    lead: String,
    own: Vec<OwnLink>,
    counts: BTreeSet<u64>,
}

/// A part of the folded characters.
type Span = Range<usize>;

impl Names {
    pub(super) fn of(question: &Question) -> Self {
        let business = json!(question.business);
        let mut names = Self { lead: question.lead.as_str().to_owned(), ..Self::default() };
        names.add(&business);
        // Only the profile's numbers: its texts are its owner's.
        let profile = &question.prompt.profile;
        if let (Some(start), Some(end)) = (profile.find('{'), profile.rfind('}')) {
            let data = profile.get(start..=end).and_then(|json| serde_json::from_str::<Value>(json).ok());
            add_counts(&data.unwrap_or_default(), &mut names.counts);
        }
        names
    }

    /// Adds the links and counts of a business.
    fn add(&mut self, business: &Value) {
        add_counts(business, &mut self.counts);
        each_text(business, &mut |text| self.own.extend(OwnLink::all(&chars(text))));
    }

    /// Returns what a message must not contain, if it contains it.
    pub(super) fn find(&self, text: &str) -> Option<Finding> {
        let chars = chars(text);
        let first = self.findings(&chars).first().map(|(_, finding)| *finding);
        let is_long = || (text.chars().count() > MAX_MESSAGE).then_some(Finding::Length);
        first.or_else(|| has_placeholder(&chars).then_some(Finding::Placeholder)).or_else(is_long)
    }

    /// Returns the text with each link, handle and number replaced by a note.
    pub(super) fn masked(&self, text: &str) -> String {
        let text = self.spaced(text);
        let folded = folded_chars(&text);
        let chars: Vec<char> = folded.iter().map(|(_, c)| *c).collect();
        let mut masked = String::with_capacity(text.len());
        let mut kept = 0;
        for (span, finding) in self.findings(&chars) {
            let (start, last) = (folded[span.start].0, folded[span.end - 1].0);
            masked.push_str(&text[kept..start.max(kept)]);
            masked.push_str(match finding {
                Finding::Handle => "(handle removed)",
                Finding::Number => "(number removed)",
                _ => "(link removed)",
            });
            kept = last + text[last..].chars().next().map_or(0, char::len_utf8);
        }
        masked.push_str(&text[kept..]);
        masked
    }

    /// Returns a message without what it can do without: emoji, the signs of hashtags, and full stops that make two words look like a host name.
    pub(super) fn tidied(&self, text: &str) -> String {
        let text = self.with_mentions(&self.spaced(text));
        let folded = folded_chars(&text);
        let chars: Vec<char> = folded.iter().map(|(_, c)| *c).collect();
        let allowed = self.allowed(&chars);
        let is_name = |at: usize| allowed.links.iter().any(|span| folded[span.clone()].iter().any(|(place, _)| *place == at));
        let mut tidied = String::with_capacity(text.len());
        let mut start = 0;
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end();
            let kept = without_emoji(word);
            let word_at = start;
            start += piece.len();
            if kept.is_empty() && !word.is_empty() {
                continue; // with the blank after it
            }
            for (index, (at, c)) in kept.iter().enumerate() {
                let near = |steps: isize| index.checked_add_signed(steps).and_then(|near| kept.get(near)).map(|(_, c)| *c);
                let is_hashtag = *c == '#' && near(1).is_some_and(char::is_alphabetic) && !near(-1).is_some_and(char::is_alphanumeric);
                if !is_hashtag {
                    tidied.push(*c);
                }
                let begins = near(1).is_some_and(char::is_uppercase) && near(2).is_some_and(char::is_lowercase);
                // One letter is an initial or a part of an abbreviation: "J.Crew", "M.Sc."
                let ends = near(-1).is_some_and(char::is_alphabetic) && near(-2).is_some_and(char::is_alphabetic);
                if *c == '.' && begins && ends && !is_name(word_at + at) {
                    tidied.push(' ');
                }
            }
            tidied.push_str(&piece[word.len()..]);
        }
        tidied.trim().to_owned()
    }

    /// Returns the text with a blank after a full stop between ordinary words ("fun.it is").
    fn spaced(&self, text: &str) -> String {
        with_blanks(text, |chars| {
            let allowed = self.allowed(chars);
            let stops = Dotted::all(chars).into_iter().filter(|dotted| !allowed.holds(&dotted.name));
            stops.filter_map(|dotted| dotted.missing_blank(chars)).collect()
        })
    }

    /// Returns the text with a blank between a letter and the lead's handle: "Hello@lead" may be an address.
    fn with_mentions(&self, text: &str) -> String {
        with_blanks(text, |chars| {
            let is_mention = |at: usize| chars[at] == '@' && links::lead_at(chars, at + 1, &self.lead).is_some();
            (1..chars.len()).filter(|at| chars[at - 1].is_ascii_alphabetic() && is_mention(*at)).collect()
        })
    }

    /// Returns the parts of a text that must not be in it, in their order. None overlaps another.
    fn findings(&self, chars: &[char]) -> Vec<(Span, Finding)> {
        let allowed = self.allowed(chars);
        let mut rest = chars.to_vec();
        for span in &allowed.links {
            rest[span.clone()].fill('\n');
        }
        let has_target = |at: usize| allowed.links.iter().any(|span| span.contains(&at));
        let hosts = Dotted::all(chars).into_iter().filter(|dotted| dotted.is_host && !allowed.holds(&dotted.name));
        let schemes = links::schemes(chars).into_iter().filter(|(_, target)| !has_target(*target)).map(|(span, _)| span);
        let mut found: Vec<(Span, Finding)> = hosts.map(|dotted| dotted.link()).chain(schemes).map(|span| (span, Finding::Link)).collect();
        found.extend(links::handles(&rest));
        found.extend(numbers::telephones(&rest, &self.counts).into_iter().map(|span| (span, Finding::Number)));
        found.sort_by_key(|(span, _)| (span.start, Reverse(span.end)));
        let mut apart: Vec<(Span, Finding)> = Vec::new();
        for (span, finding) in found {
            match apart.last_mut() {
                Some((last, _)) if span.start < last.end => last.end = last.end.max(span.end),
                _ => apart.push((span, finding)),
            }
        }
        apart
    }

    fn allowed(&self, chars: &[char]) -> Allowed {
        let leads = (0..chars.len()).filter_map(|at| links::lead_at(chars, at, &self.lead));
        let leads: Vec<Span> = leads.filter(|span| !links::is_linked(chars, span, &self.lead)).collect();
        let mut allowed = Allowed { links: leads.clone(), names: leads };
        for dotted in Dotted::all(chars) {
            let follows_at = dotted.name.start > 0 && chars[dotted.name.start - 1] == '@';
            if !follows_at && (dotted.is_technology() || self.own.iter().any(|own| own.allows(&dotted))) {
                allowed.links.push(dotted.link());
                // The business's own site could forward to another one.
                allowed.names.push(if dotted.is_shared() { dotted.link() } else { dotted.name });
            }
        }
        allowed
    }
}

/// The parts of a text that hold what it may contain.
struct Allowed {
    /// The lead's handle and the business's links. There are no handles or numbers in them.
    links: Vec<Span>,
    /// The parts of them in which there are no other links either.
    names: Vec<Span>,
}

impl Allowed {
    fn holds(&self, name: &Span) -> bool {
        self.names.iter().any(|span| span.start <= name.start && name.end <= span.end)
    }
}

/// Inserts blanks before the characters that are found, which are in their order.
fn with_blanks(text: &str, find: impl FnOnce(&[char]) -> Vec<usize>) -> String {
    let folded = folded_chars(text);
    let places = find(&folded.iter().map(|(_, c)| *c).collect::<Vec<_>>());
    let mut spaced = text.to_owned();
    for at in places.into_iter().rev() {
        spaced.insert(folded[at].0, ' ');
    }
    spaced
}

fn chars(text: &str) -> Vec<char> {
    folded_chars(text).into_iter().map(|(_, c)| c).collect()
}

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, visit)),
        Value::Object(fields) => fields.values().for_each(|value| each_text(value, visit)),
        _ => {}
    }
}

fn add_counts(value: &Value, counts: &mut BTreeSet<u64>) {
    match value {
        Value::Number(number) => counts.extend(number.as_u64()),
        Value::Array(values) => values.iter().for_each(|value| add_counts(value, counts)),
        Value::Object(fields) => fields.values().for_each(|value| add_counts(value, counts)),
        _ => {}
    }
}

/// The longest placeholder, in characters.
const MAX_PLACEHOLDER: usize = 60;
/// What stands in round brackets only as a placeholder.
const BLANKS: [&str; 12] = [
    "name",
    "your name",
    "first name",
    "last name",
    "company name",
    "business name",
    "vorname",
    "dein name",
    "nombre",
    "tu nombre",
    "prénom",
    "votre nom",
];

/// Whether a message has a part that the sender has to fill in: words in square, curly or angle brackets, or between percent signs. A direct message
/// needs none of them.
fn has_placeholder(chars: &[char]) -> bool {
    chars.iter().enumerate().any(|(at, open)| {
        let close = match open {
            '[' => ']',
            '{' => '}',
            '<' => '>',
            '(' => ')',
            '%' => '%',
            _ => return false,
        };
        let within = chars[at + 1..].iter().take(MAX_PLACEHOLDER);
        let Some(length) = within.clone().position(|c| *c == close) else { return false };
        let within: String = within.take(length).collect();
        match open {
            '(' => BLANKS.contains(&within.trim()),
            '%' => within.len() > 1 && within.chars().all(|c| c.is_ascii_alphabetic() || c == '_'),
            _ => within.contains(is_word) && within.contains(char::is_alphabetic),
        }
    })
}

/// Returns the characters of a word with their places, without emoji and what joins them.
fn without_emoji(word: &str) -> Vec<(usize, char)> {
    let is_emoji = |c: char| matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b05}'..='\u{2b55}' | '\u{231a}'..='\u{231b}' | '\u{23e9}'..='\u{23fa}' | '\u{20e3}' | '\u{fe0f}');
    let mut kept = Vec::new();
    let mut after_emoji = false;
    for (at, c) in word.char_indices() {
        let joins = after_emoji && c == '\u{200d}';
        after_emoji = is_emoji(c) || joins;
        if !after_emoji {
            kept.push((at, c));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
