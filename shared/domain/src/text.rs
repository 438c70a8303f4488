//! Text of unknown origin: what a reader does not see of it, and the form in which it is compared.

use unicode_normalization::UnicodeNormalization;

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

/// Returns the text as it is compared: compatibility forms (NFKC) in lower case, without characters that show nothing. The full stops that stand
/// for a dot in host names (IDNA) become one.
pub fn folded(text: &str) -> String {
    let joins = |c: &char| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}');
    let shown = text.chars().filter(|c| !is_hidden(*c) && !joins(c));
    shown.nfkc().map(|c| if matches!(c, '\u{3002}' | '\u{ff61}') { '.' } else { c }).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_compared_as_the_usual_characters() {
        assert_eq!(folded("\u{ff25}vil\u{3002}\u{24d2}om"), "evil.com");
        assert_eq!(folded("ev\u{ad}i\u{200d}l\u{ff0e}co\u{200b}m"), "evil.com");
    }
}
