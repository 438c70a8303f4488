//! Telephone numbers.
//!
//! A run of digits is read as dates, times and counts as far as it has their form. What remains is a telephone number if it is long enough, or short
//! and written or announced as one. A long count needs a reason to be one: it is round, something is counted, or the question names it.

use std::collections::BTreeSet;

use oslira_domain::text::is_word;

use super::Span;

/// A group of digits within a run.
struct Group {
    span: Span,
    digits: String,
    /// What separates it from the group before, without blanks, unless it is a blank only.
    separator: String,
}

/// Digits that may be one number, with what the text around says about them.
struct Run<'a> {
    groups: Vec<Group>,
    /// What stands before the first digit: a plus sign or a bracket.
    sign: Option<char>,
    is_announced: bool,
    is_counted: bool,
    counts: &'a BTreeSet<u64>,
}

/// Beginnings of words that announce a telephone number.
const CALLS: [&str; 22] = [
    "call",
    "phone",
    "telephone",
    "tel",
    "telefon",
    "telefono",
    "telefone",
    "tel\u{e9}fono",
    "t\u{e9}l\u{e9}phone",
    "mobile",
    "mobil",
    "m\u{f3}vil",
    "handy",
    "whatsapp",
    "sms",
    "viber",
    "dial",
    "ring",
    "fax",
    "llama",
    "ruf",
    "appelez",
];
/// Words that announce one after it.
const CALLED: [&str; 4] = ["whatsapp", "viber", "telegram", "anrufen"];
/// Beginnings of words for what is counted. The first of them may also stand before the number: "Followers: 283".
const COUNTED: [&str; 27] = [
    "followers",
    "abonn",
    "subscriber",
    "seguidor",
    "views",
    "aufruf",
    "follower",
    "vues",
    "vistas",
    "visual",
    "plays",
    "likes",
    "fans",
    "people",
    "persons",
    "users",
    "members",
    "comments",
    "downloads",
    "streams",
    "impressions",
    "leute",
    "menschen",
    "nutzer",
    "mitglieder",
    "kommentare",
    "personas",
];
const COUNTED_BEFORE: usize = 6;
const BLANK: &str = " ";

/// Returns where telephone numbers stand.
pub(super) fn telephones(chars: &[char], counts: &BTreeSet<u64>) -> Vec<Span> {
    runs(chars, counts).iter().flat_map(Run::telephones).collect()
}

/// Returns a decimal digit's value, in the scripts that phones display.
fn digit(c: char) -> Option<u32> {
    const ZEROS: [u32; 10] = [0x30, 0x660, 0x6f0, 0x966, 0x9e6, 0xa66, 0xae6, 0xe50, 0x1040, 0x17e0];
    ZEROS.iter().find_map(|zero| (u32::from(c)).checked_sub(*zero).filter(|value| *value < 10))
}

fn is_dash(c: char) -> bool {
    matches!(c, '-' | '~' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Whether the characters between two groups of digits may stand within one number.
fn joins(between: &[char]) -> bool {
    let is_list = between.first() == Some(&',') && between.len() > 1;
    between.len() <= 3 && !is_list && between.iter().all(|c| is_dash(*c) || " ./()\u{b7}\u{2022}_:*,'\u{2019}".contains(*c))
}

fn runs<'a>(chars: &[char], counts: &'a BTreeSet<u64>) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let length = chars[at..].iter().take_while(|c| digit(**c).is_some()).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let span = at..at + length;
        at = span.end;
        let digits = chars[span.clone()].iter().filter_map(|c| digit(*c)).filter_map(|value| char::from_digit(value, 10)).collect();
        let end = runs.last().and_then(|run| run.groups.last()).map(|group| group.span.end);
        let between = end.map(|end| &chars[end..span.start]).filter(|between| joins(between));
        let separator = between.map(|between| between.iter().collect::<String>());
        if let Some(separator) = separator
            && let Some(run) = runs.last_mut()
        {
            let marks = separator.trim();
            let separator = if marks.is_empty() { BLANK.to_owned() } else { marks.to_owned() };
            run.groups.push(Group { span, digits, separator });
        } else {
            let sign = chars[..span.start].last().copied().filter(|c| matches!(c, '+' | '('));
            let group = Group { span, digits, separator: String::new() };
            runs.push(Run { groups: vec![group], sign, is_announced: false, is_counted: false, counts });
        }
    }
    for run in &mut runs {
        let (start, end) = (run.groups[0].span.start, run.groups[run.groups.len() - 1].span.end);
        let (before, after) = (words(&chars[start.saturating_sub(40)..start]), words(&chars[end..chars.len().min(end + 40)]));
        let (before, after) = (&before[before.len().saturating_sub(3)..], &after[..after.len().min(2)]);
        let begins = |list: &[&str], words: &[String]| words.iter().any(|word| list.iter().any(|start| word.starts_with(start)));
        let announces = |word: &String| CALLS.iter().any(|call| word == call || (call.len() > 6 && word.starts_with(call)));
        run.is_announced = before.iter().any(announces) || after.iter().any(|word| CALLED.contains(&word.as_str()));
        run.is_counted = begins(&COUNTED, after) || (!run.is_announced && begins(&COUNTED[..COUNTED_BEFORE], before));
    }
    runs
}

fn words(chars: &[char]) -> Vec<String> {
    chars.split(|c| !is_word(*c)).filter(|word| !word.is_empty()).map(|word| word.iter().collect()).collect()
}

impl Run<'_> {
    fn telephones(&self) -> Vec<Span> {
        let mut found = Vec::new();
        let mut start = 0;
        let mut at = 0;
        while at < self.groups.len() {
            // No date follows the beginning of a telephone number.
            let pending: usize = self.groups[start..at].iter().map(|group| group.digits.len()).sum();
            let may_end = pending == 0 || (pending <= 4 && (start > 0 || self.sign != Some('+')));
            let moment = may_end.then(|| self.date(at).or_else(|| self.time(at))).flatten();
            let length = moment.or_else(|| (start == at).then(|| self.count(at)).flatten());
            if let Some(length) = length {
                found.extend(self.telephone(start, at));
                at += length;
                start = at;
            } else {
                at += 1;
            }
        }
        found.extend(self.telephone(start, at));
        found
    }

    fn digits(&self, at: usize) -> &str {
        self.groups.get(at).map_or("", |group| &group.digits)
    }

    /// Returns what stands before a group, nothing after the last one.
    fn separator(&self, at: usize) -> &str {
        self.groups.get(at).map_or("", |group| &group.separator)
    }

    fn value(&self, at: usize) -> u32 {
        self.digits(at).parse().unwrap_or(u32::MAX)
    }

    fn is_short(&self, at: usize, max: u32) -> bool {
        (1..=2).contains(&self.digits(at).len()) && self.value(at) <= max
    }

    fn is_year(&self, at: usize) -> bool {
        self.digits(at).len() == 4 && (1900..=2100).contains(&self.value(at))
    }

    /// Returns the number of groups if a date begins at `at`.
    fn date(&self, at: usize) -> Option<usize> {
        let (first, second, third) = (at, at + 1, at + 2);
        let is_joined =
            self.separator(second) == self.separator(third) && self.separator(second).starts_with(|c| is_dash(c) || c == '.' || c == '/');
        let is_day_and_month =
            |one: usize, other: usize| self.is_short(one, 31) && self.is_short(other, 31) && self.value(one).min(self.value(other)) <= 12;
        let is_range = self.separator(at + 3).starts_with(is_dash) && self.separator(at + 3) != self.separator(third);
        let ends_run = self.groups.len() == at + 3 || is_range || self.time(at + 3).is_some();
        let is_date = (is_day_and_month(first, second) && (self.is_year(third) || (self.digits(third).len() == 2 && ends_run)))
            || (self.is_year(first) && is_day_and_month(second, third));
        (is_joined && is_date).then_some(3)
    }

    /// Returns the number of groups if a time begins at `at`, or a range of times with full stops.
    fn time(&self, at: usize) -> Option<usize> {
        let pair = |at: usize, separator: &str| {
            self.is_short(at, 24) && self.digits(at + 1).len() == 2 && self.is_short(at + 1, 59) && self.separator(at + 1) == separator
        };
        let is_range = pair(at, ".") && self.separator(at + 2).starts_with(is_dash) && pair(at + 2, ".") && self.separator(at + 4) != ".";
        let has_seconds = self.separator(at + 2) == ":" && self.digits(at + 2).len() == 2;
        let length = if has_seconds { 3 } else { 2 };
        let is_time = pair(at, ":") && self.separator(at) != ":" && self.separator(at + length) != ":";
        if is_range { Some(4) } else { is_time.then_some(length) }
    }

    /// Returns the number of groups if the run ends with a count that begins at `at`: years, a number, or a range of two.
    fn count(&self, at: usize) -> Option<usize> {
        let rest = self.groups.len() - at;
        if rest > 1 && !self.is_announced && (at..self.groups.len()).all(|at| self.is_year(at)) {
            return Some(rest);
        }
        let first = self.number(at);
        let is_range = self.separator(at + first).starts_with(is_dash);
        let length = if is_range { first + self.number(at + first) } else { first };
        let is_count = self.is_count(at, first, is_range) && (!is_range || self.is_count(at + first, length - first, true));
        (length == rest && is_count).then_some(length)
    }

    /// Returns how many groups form a number: several if they are thousands, or a fraction.
    fn number(&self, at: usize) -> usize {
        let separator = self.separator(at + 1);
        let is_fraction = |at: usize, digits: &str| {
            self.groups.len() == at + 2
                && [".", ","].contains(&self.separator(at + 1))
                && digits.len() <= 2
                && (digits == "0" || !digits.starts_with('0'))
        };
        if is_fraction(at, self.digits(at)) {
            return 2;
        }
        let is_grouped = (1..=3).contains(&self.digits(at).len()) && [".", ",", BLANK, "'", "\u{2019}"].contains(&separator);
        let thousands = (at + 1..self.groups.len())
            .take_while(|next| is_grouped && self.digits(*next).len() == 3 && self.separator(*next) == separator);
        1 + thousands.count()
    }

    /// Whether there is a reason to read these groups as a count.
    fn is_count(&self, at: usize, length: usize, in_range: bool) -> bool {
        let digits: String = self.groups[at..at + length].iter().map(|group| group.digits.as_str()).collect();
        let separator = self.separator(at + 1);
        let is_written = length > 1 && separator != BLANK;
        let is_plain = self.sign != Some('+') && !self.is_announced;
        let is_fraction = is_written && self.digits(at + 1).len() != 3;
        let is_named = self.is_counted || digits.parse().is_ok_and(|number| self.counts.contains(&number));
        let is_round = digits.ends_with(if in_range { "00" } else { "000" }) && (is_plain || is_written || in_range);
        let is_usual = is_written && (separator == "," || (is_plain && digits.len() < 9));
        is_fraction || (!digits.starts_with('0') && (is_named || is_round || is_usual))
    }

    /// Returns the span of the groups from `start` to `end` if they are a telephone number.
    fn telephone(&self, start: usize, end: usize) -> Option<Span> {
        let groups = &self.groups[start..end];
        let first = groups.first()?;
        let has_area_code = self.separator(1).starts_with(')') && first.digits.len() <= 3;
        let sign = self.sign.filter(|sign| start == 0 && (*sign == '+' || has_area_code));
        let has_prefix = sign.is_some() || (first.digits.starts_with('0') && first.digits.len() > 1);
        // A list without blanks has commas, a number with a prefix may have them.
        if !has_prefix && let Some(comma) = groups.iter().skip(1).position(|group| group.separator == ",") {
            return self.telephone(start, start + comma + 1).or_else(|| self.telephone(start + comma + 1, end));
        }
        let digits: usize = groups.iter().map(|group| group.digits.len()).sum();
        let is_telephone = digits >= 9 || (digits >= 7 && (has_prefix || self.is_announced));
        is_telephone.then(|| first.span.start - usize::from(sign.is_some())..groups[groups.len() - 1].span.end)
    }
}
