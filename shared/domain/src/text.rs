//! Text of unknown origin: what a reader does not see of it, and the form in which it is compared.

use std::iter::once;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Whether a character shows nothing and can hide or reorder text: control characters except line ends, marks of direction, fillers, tags,
/// variation selectors. Joiners and the emoji selector (U+FE0F) are not among them, because ordinary text has them.
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character is part of a word: a letter, a digit, or a mark on one, as the vowel signs of Hindi.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

/// Returns what stands for a character: a line end or a blank for those that separate words, nothing for those that show nothing.
fn seen(c: char) -> Option<char> {
    match c {
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        c if c.is_control() => Some(' '),
        c => (!is_hidden(c)).then_some(c),
    }
}

/// Returns the text without characters that show nothing. Tabs, line ends of every kind and other control characters separate words, so that
/// a blank or a line end replaces them; none is added to one that is there.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().filter_map(|c| seen(c).map(|seen| (seen, seen != c))).peekable();
    while let Some((c, is_replacement)) = chars.next() {
        let is_surplus = match c {
            // The line feed of a CR LF remains.
            '\n' => chars.peek() == Some(&('\n', false)),
            _ => shown.ends_with(char::is_whitespace) || chars.peek().is_some_and(|(next, _)| next.is_whitespace()),
        };
        if !(is_replacement && is_surplus) {
            shown.push(c);
        }
    }
    shown
}

/// Returns the characters of the text as they are compared, each with the place, in bytes, of the one that it stands for: compatibility forms (NFKC)
/// in lower case, without characters that show nothing. Symbols that contain letters, such as the trademark sign, stay: they end a word.
pub fn folded_chars(text: &str) -> Vec<(usize, char)> {
    let joins = |c: &char| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}');
    let seen = text.char_indices().filter_map(|(at, c)| seen(c).filter(|c| !joins(c)).map(|c| (at, c)));
    let mut folded = Vec::with_capacity(text.len());
    for (at, c) in seen {
        let is_symbol = !is_word(c) && once(c).nfkc().any(char::is_alphanumeric);
        if is_symbol {
            folded.push((at, c));
        } else {
            folded.extend(once(c).nfkc().flat_map(char::to_lowercase).map(|c| (at, c)));
        }
    }
    folded
}

/// Returns the text as it is compared, see [`folded_chars`]. The full stops that stand for a dot in host names (IDNA) become one.
pub fn folded(text: &str) -> String {
    folded_chars(text).into_iter().map(|(_, c)| if c == '\u{3002}' { '.' } else { c }).nfc().collect()
}

/// Returns a folded text without accents, so that words are found however carefully they are written.
pub(crate) fn without_accents(text: &str) -> String {
    text.nfd().filter(|c| !is_combining_mark(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_compared_as_the_usual_characters() {
        for (text, expected) in [
            ("\u{ff25}vil\u{3002}\u{24d2}om", "evil.com"),
            ("ev\u{ad}i\u{200d}l\u{ff0e}co\u{200b}m", "evil.com"),
            ("evil\u{ff61}COM\u{2122}", "evil.com\u{2122}"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("ignore\tall\u{2028}rules\u{1}now", "ignore all\nrules now"),
        ] {
            assert_eq!(folded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_separates_words_becomes_a_blank_or_a_line_end() {
        for (text, expected) in [
            ("a\tb\u{0}c\u{1b}d", "a b c d"),
            ("a\r\nb\rc\u{2028}d\u{2029}e\u{85}f\u{b}g\u{c}h", "a\nb\nc\nd\ne\nf\ng\nh"),
            ("a\u{0} b \tc\t\td\n\te", "a b c d\ne"),
            ("a\n\nb  c\u{a0}d", "a\n\nb  c\u{a0}d"),
            ("a\u{200b}b\u{202e}c\u{ad}d", "abcd"),
            ("\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}", "\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_folded_character_knows_its_place() {
        assert_eq!(folded_chars("\u{e9}\u{200b}\u{ff21}\u{fb01}"), [(0, '\u{e9}'), (5, 'a'), (8, 'f'), (8, 'i')]);
    }
}
