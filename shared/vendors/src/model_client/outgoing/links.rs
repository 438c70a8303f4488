//! Host names, links and handles.

use oslira_domain::text::is_word;

use super::{Finding, Span, sites};

/// Words joined by dots, with the path behind them: a host name perhaps.
pub(super) struct Dotted {
    /// Where the words stand, up to the one that makes them a host name.
    pub(super) name: Span,
    /// The words without `www.`.
    pub(super) host: String,
    /// Port, path and query, without a slash at the end.
    rest: String,
    rest_end: usize,
    /// Whether they end with a public suffix, begin with `www.`, or are an IPv4 address.
    pub(super) is_host: bool,
}

/// A link in what a business says of itself.
pub(super) struct OwnLink {
    host: String,
    rest: String,
}

/// Names that end like host names: technologies and degrees.
const TECHNOLOGIES: [&str; 5] = ["asp.net", "ado.net", "vb.net", "m.sc", "b.sc"];
/// Suffixes that end a host name even if a dot and a word follow, because no sentence begins with them: "evil.com.Thanks".
const CERTAIN: [&str; 3] = ["com", "net", "org"];
/// Schemes of links that need no slashes.
const SCHEMES: [&str; 19] = [
    "http:",
    "https:",
    "tel:",
    "callto:",
    "mailto:",
    "sms:",
    "whatsapp:",
    "tg:",
    "viber:",
    "skype:",
    "facetime:",
    "sip:",
    "sips:",
    "xmpp:",
    "bitcoin:",
    "javascript:",
    "data:text/",
    "data:image/",
    "data:application/",
];

impl Dotted {
    /// Returns all of a text. In scripts without blanks, a word ends where another script begins.
    pub(super) fn all(chars: &[char]) -> Vec<Self> {
        let mut all = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let mut words = Vec::new();
            while let Some(word) = word_at(chars, at) {
                at = word.end;
                words.push(word);
                if !is_dot(chars, at) {
                    break;
                }
                at += 1;
            }
            match words.as_slice() {
                [] => at += 1,
                [_] => {}
                words => all.push(Self::new(chars, words)),
            }
        }
        all
    }

    fn new(chars: &[char], words: &[Span]) -> Self {
        let (first, last) = (&words[0], &words[words.len() - 1]);
        let text = |span: Span| chars[span].iter().collect::<String>().replace('\u{3002}', ".");
        let has_digits_only = |span: &Span| text(span.clone()).bytes().all(|byte| byte.is_ascii_digit());
        let suffix_end = ends(chars, last).find(|end| {
            let is_suffix = |text: &str| psl::suffix(text.as_bytes()).is_some_and(|suffix| suffix.is_known());
            is_suffix(&text(last.start..*end)) || is_suffix(&text(first.start..*end))
        });
        let certain = words[1..].iter().rev().find(|word| CERTAIN.contains(&text((*word).clone()).as_str())).map(|word| word.end);
        let whole = text(first.start..last.end);
        let is_known = text(first.clone()) == "www" || whole.parse::<std::net::Ipv4Addr>().is_ok();
        let host_end = suffix_end.or(certain).or(is_known.then_some(last.end));
        let is_time = words[..words.len() - 1].iter().all(has_digits_only) && ["am", "pm"].contains(&text(last.clone()).as_str());
        let end = host_end.unwrap_or(last.end);
        let is_frame = |c: &&char| matches!(**c, '_' | '-');
        // Underscores may be Markdown's.
        let start = first.start + chars[first.start..end].iter().take_while(is_frame).count();
        let end = end - chars[start..end].iter().rev().take_while(is_frame).count();
        let rest_end = if end == last.end { path_end(chars, end) } else { end };
        let host = text(start..end);
        Self {
            name: start..end,
            host: host.strip_prefix("www.").unwrap_or(&host).to_owned(),
            rest: text(end..rest_end).trim_end_matches('/').to_owned(),
            rest_end,
            is_host: host_end.is_some() && !(is_time && rest_end == end),
        }
    }

    /// Returns where the link stands: the name and what follows it.
    pub(super) fn link(&self) -> Span {
        self.name.start..self.rest_end
    }

    /// Returns where a blank is missing: two ordinary words with a full stop between them, and the sentence goes on.
    pub(super) fn missing_blank(&self, chars: &[char]) -> Option<usize> {
        let (end, start) = self.host.split_once('.')?;
        let goes_on = self.rest_end == self.name.end && chars.get(self.name.end) == Some(&' ');
        let begins = self.name.start.checked_sub(1).is_none_or(|before| chars[before].is_whitespace());
        (begins && goes_on && sites::is_two_words(end, start)).then_some(self.name.start + end.len() + 1)
    }

    pub(super) fn is_technology(&self) -> bool {
        self.rest.is_empty() && TECHNOLOGIES.contains(&self.host.as_str())
    }

    /// Whether each path of the site is another person's.
    pub(super) fn is_shared(&self) -> bool {
        sites::is_shared(&self.host)
    }
}

impl OwnLink {
    /// Returns all of a business's text. The host of an email address may be a provider's and is none, nor is a handle with dots in a path.
    pub(super) fn all(chars: &[char]) -> Vec<Self> {
        let mut end = 0;
        let mut all = Vec::new();
        for dotted in Dotted::all(chars) {
            let is_part = dotted.name.start < end || chars[..dotted.name.start].ends_with(&['@']);
            end = end.max(dotted.rest_end);
            if !is_part {
                all.push(Self { host: dotted.host, rest: dotted.rest });
            }
        }
        all
    }

    /// Whether a link leads to the business: to any page of its own site, or to its page of a shared one.
    pub(super) fn allows(&self, link: &Dotted) -> bool {
        if self.host != link.host {
            return false;
        }
        let has_own_host = self.rest.is_empty() && sites::is_hosted(&self.host);
        if !link.is_shared() || has_own_host {
            return true;
        }
        let below = link.rest.strip_prefix(&self.rest).filter(|_| !self.rest.is_empty() && !self.rest.contains('?'));
        link.rest == self.rest || below.is_some_and(|below| below.starts_with(['/', '?', '#']))
    }
}

/// Whether a character is part of a host name's word.
fn is_label(c: char) -> bool {
    is_word(c) || c == '-' || c == '_'
}

/// Whether a character belongs to a script that is written without blanks, or attaches its particles to foreign words: Thai to Hangul.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn word_at(chars: &[char], start: usize) -> Option<Span> {
    let first = *chars.get(start).filter(|c| is_label(**c))?;
    let length = chars[start..].iter().take_while(|c| is_label(**c) && is_unspaced(**c) == is_unspaced(first)).count();
    Some(start..start + length)
}

/// Whether a dot joins two words. The ideographic full stop joins only what cannot be the next sentence.
fn is_dot(chars: &[char], at: usize) -> bool {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    match chars.get(at) {
        Some('.') => is_label(next),
        Some('\u{3002}') => next.is_ascii_alphanumeric(),
        _ => false,
    }
}

/// Returns where a host name's last word may end, the longest first: at its end, before a hyphen or an underscore, where ASCII ends, and anywhere
/// in scripts without blanks.
fn ends(chars: &[char], word: &Span) -> impl Iterator<Item = usize> {
    let (start, end) = (word.start, word.end);
    (start + 1..=end).rev().filter(move |at| {
        let (before, next) = (chars[at - 1], chars.get(*at).copied().unwrap_or(' '));
        let is_latin = |c: char| c.is_ascii() || matches!(c, '\u{c0}'..='\u{36f}' | '\u{1e00}'..='\u{1eff}');
        *at == end || matches!(next, '-' | '_') || is_latin(before) != is_latin(next) || is_unspaced(next)
    })
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "()[]{}<>\"'\u{201e}\u{201c}\u{201d}\u{2018}\u{2019}\u{ab}\u{bb},;|\u{3001}".contains(c)
}

/// Returns the end of the path, query or port that begins at `start`, or `start`. Punctuation at its end is the sentence's.
fn path_end(chars: &[char], start: usize) -> usize {
    let is_port = chars.get(start) == Some(&':') && chars.get(start + 1).is_some_and(char::is_ascii_digit);
    if !is_port && !chars.get(start).is_some_and(|c| matches!(c, '/' | '?' | '#' | '\\' | '&' | '=')) {
        return start;
    }
    let is_path = |c: char| (c.is_ascii_graphic() || is_word(c)) && !is_separator(c) && !is_unspaced(c);
    let length = chars[start..].iter().take_while(|c| is_path(**c)).count();
    let sentence = chars[start..start + length].iter().rev().take_while(|c| ".:!?*~`_#&=\\".contains(**c)).count();
    start + length - sentence
}

/// Returns the links by their schemes: where each stands, and where its target begins.
pub(super) fn schemes(chars: &[char]) -> Vec<(Span, usize)> {
    let is_target = |at: usize| chars.get(at).is_some_and(|c| is_label(*c) || matches!(c, '/' | '+' | '[' | '?'));
    let starts = |at: usize, text: &str| text.chars().enumerate().all(|(step, c)| chars.get(at + step) == Some(&c));
    let end = |target: usize| {
        let length = chars[target..].iter().take_while(|c| !is_separator(**c)).count();
        target + length - chars[target..target + length].iter().rev().take_while(|c| ".:!?*~`".contains(**c)).count()
    };
    let mut found = Vec::new();
    for at in 0..chars.len() {
        if starts(at, "://") && is_target(at + 3) {
            let scheme = chars[..at].iter().rev().take_while(|c| c.is_ascii_alphabetic()).count();
            found.push((at - scheme..end(at + 3), at + 3));
        }
        if at > 0 && is_label(chars[at - 1]) && !is_unspaced(chars[at - 1]) {
            continue;
        }
        if let Some(scheme) = SCHEMES.iter().find(|scheme| starts(at, scheme)) {
            let target = at + scheme.len();
            let slashes = chars[target..].iter().take_while(|c| **c == '/').count();
            if is_target(target) {
                found.push((at..end(target).max(target), target + slashes));
            }
        }
    }
    found
}

fn is_handle(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.' || c == '_'
}

/// Returns the lead's handle if it stands at `start`, not within a longer one.
pub(super) fn lead_at(chars: &[char], start: usize, lead: &str) -> Option<Span> {
    let end = start + lead.len();
    let is_lead = !lead.is_empty() && chars.get(start..end)?.iter().copied().eq(lead.chars());
    let (before, after) = (start.checked_sub(1).map(|at| chars[at]), &chars[end..]);
    let goes_on = match after {
        ['.', c, ..] | [c, ..] => is_handle(*c) && *c != '.',
        [] => false,
    };
    let is_within = before.is_some_and(is_handle) || goes_on;
    let is_number = lead.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_') && before != Some('@');
    (is_lead && !is_within && !is_number).then_some(start..end)
}

/// Whether the lead's handle is the host of a link or an email address. Only one that ends with a public suffix can be.
pub(super) fn is_linked(chars: &[char], lead: &Span, handle: &str) -> bool {
    let is_host = Dotted::all(&handle.chars().collect::<Vec<_>>()).iter().any(|dotted| dotted.is_host);
    let before = &chars[..lead.start];
    let is_email = before.ends_with(&['@']) && local_part(before, before.len() - 1) > 0;
    let is_url = before.ends_with(&['/', '/']) || path_end(chars, lead.end) > lead.end || chars.get(lead.end) == Some(&'@');
    is_host && (is_email || is_url)
}

/// Returns the length of what may be the first part of an email address before an at sign.
fn local_part(chars: &[char], at: usize) -> usize {
    let length = chars[..at].iter().rev().take_while(|c| is_handle(**c) || "+-%".contains(**c)).count();
    if chars[at - length..at].iter().any(char::is_ascii_alphanumeric) { length } else { 0 }
}

/// Returns handles and email addresses: what stands around at signs, unless it is a time or place ("class @ 6pm").
pub(super) fn handles(chars: &[char]) -> Vec<(Span, Finding)> {
    let mut found = Vec::new();
    for at in (0..chars.len()).filter(|at| chars[*at] == '@') {
        let length = chars[at + 1..].iter().take_while(|c| is_handle(**c)).count();
        let name: String = chars[at + 1..at + 1 + length].iter().collect();
        let name = name.trim_end_matches('.');
        let end = at + 1 + name.len();
        let is_foreign = name.is_empty() && chars.get(at + 1).is_some_and(|c| is_word(*c));
        let local = local_part(chars, at);
        if local > 0 && name.trim_start_matches('.').contains('.') {
            found.push((at - local..end, Finding::Link));
        } else if is_foreign || (name.contains(|c| c != '.') && !is_time(name)) {
            found.push((at..end.max(at + 2), Finding::Handle));
        }
    }
    found
}

/// Whether a name after an at sign is a time: "6pm", "18.30", "18h30", "24hr".
fn is_time(name: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let hour = digits(name);
    let rest = &name[hour..];
    let minutes = rest.strip_prefix(['.', 'h']).filter(|rest| digits(rest) == 2).map_or(rest, |rest| &rest[2..]);
    (1..=2).contains(&hour) && ["", "am", "pm", "a.m", "p.m", "a", "p", "h", "hr", "hrs", "uhr", "kg", "lb", "lbs"].contains(&minutes)
}
