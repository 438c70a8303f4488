//! Counts as the vendor writes them: numbers, or texts as people and pages write them.
//!
//! A wrong count is worse than an unknown one. So a text is read only if there is one way to read it: with digits between its separators
//! that languages group so, and with an abbreviation that has one meaning. A bound ("10k+") or an estimate ("≈1M") is no count.

use oslira_domain::text::is_hidden;
use serde_json::Value;

use crate::wire::whole;

/// More than any account or post has. A larger number is none of a person's followers or of a post's plays.
const MAX: i64 = 100_000_000_000;
/// What stands for a power of ten. "mil" is not among them: it is a thousand in Spanish, and elsewhere a million.
const FACTORS: [(&str, f64); 15] = [
    ("k", 1e3),
    ("tsd", 1e3),
    ("тыс", 1e3),
    ("m", 1e6),
    ("mio", 1e6),
    ("mln", 1e6),
    ("млн", 1e6),
    ("b", 1e9),
    ("bn", 1e9),
    ("mrd", 1e9),
    ("万", 1e4),
    ("萬", 1e4),
    ("만", 1e4),
    ("億", 1e8),
    ("亿", 1e8),
];
/// The zeros of the scripts whose digits people write numbers with: full width, Arabic, Persian, Devanagari, Bengali, Tamil, Thai.
const ZEROS: [char; 7] = ['\u{ff10}', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{be6}', '\u{e50}'];
const SEPARATORS: [char; 5] = [',', '.', ' ', '\'', '_'];

/// Returns a count. `None` if it is unknown, hidden (-1) or ambiguous.
pub(super) fn count(value: &Value) -> Option<i64> {
    let number = match value {
        Value::String(text) => written(text)?,
        other => other.as_i64().or_else(|| whole(other.as_f64()?))?,
    };
    (0..=MAX).contains(&number).then_some(number)
}

fn written(text: &str) -> Option<i64> {
    let shown = text.chars().filter(|c| !is_hidden(*c) || c.is_whitespace());
    let text: String = shown.map(plain).flat_map(char::to_lowercase).collect();
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && !SEPARATORS.contains(&c)).unwrap_or(text.len());
    let (number, unit) = (text[..end].trim_end(), text[end..].trim_end_matches('.'));
    if unit.is_empty() && end == text.len() {
        let (integer, fraction) = parts(number, None)?;
        // A program may write a whole number as "1204.0".
        return (fraction.len() <= 2 && fraction.bytes().all(|digit| digit == b'0')).then(|| integer.parse().ok())?;
    }
    let factor = FACTORS.iter().find(|(name, _)| *name == unit)?.1;
    let (integer, fraction) = parts(number, Some(factor))?;
    whole((format!("{integer}.{fraction}0").parse::<f64>().ok()? * factor).round())
}

/// Returns a digit or separator in its ASCII form, and any other character as it is.
fn plain(c: char) -> char {
    let digit = ZEROS.iter().find_map(|zero| u32::from(c).checked_sub(u32::from(*zero)).filter(|digit| *digit < 10));
    match c {
        '\u{ff0c}' | '\u{66c}' => ',',
        '\u{ff0e}' | '\u{66b}' => '.',
        '\u{2019}' => '\'',
        // Blanks that do not break, but no tabs and line ends: those stand between two numbers.
        _ if c.is_whitespace() && !c.is_control() => ' ',
        _ => digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c),
    }
}

/// Returns the digits before and after the decimal mark.
///
/// A single separator before three digits may be either. Without an abbreviation it groups: "12.345" is twelve thousand, because a count has no
/// fraction. Before an abbreviation a dot is decimal, because programs write three decimals with a dot ("1.125k"). A comma groups before a
/// thousand, because people abbreviate to one decimal or two ("1,234K" is 1,234 thousand). Before more than a thousand it is ambiguous: no account
/// has 1,234 million followers.
fn parts(number: &str, factor: Option<f64>) -> Option<(String, &str)> {
    let Some((integer, fraction)) = number.rsplit_once([',', '.']) else { return Some((ungrouped(number)?, "")) };
    let mark = char::from(number.as_bytes()[integer.len()]);
    let is_repeated = integer.contains(mark);
    let is_alone = !integer.contains(SEPARATORS);
    let looks_grouped = is_alone && fraction.len() == 3 && ungrouped(number).is_some();
    let groups = match factor {
        _ if is_repeated => true,
        None => looks_grouped,
        Some(factor) if looks_grouped && mark == ',' => (factor <= 1e3).then_some(true)?,
        Some(_) => false,
    };
    if groups {
        return Some((ungrouped(number)?, ""));
    }
    // "1,0" may be the beginning of something else.
    let is_decimal = mark == '.' || !is_alone || factor.is_some();
    let is_digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    (is_decimal && is_digits).then(|| Some((ungrouped(integer)?, fraction)))?
}

/// Returns the digits of a whole number without its separators. `None` unless they group it: by thousands, or the Indian way ("12,50,000").
fn ungrouped(number: &str) -> Option<String> {
    let separator = number.chars().find(|c| SEPARATORS.contains(c));
    let groups: Vec<&str> = separator.map_or_else(|| vec![number], |separator| number.split(separator).collect());
    let is_valid = match &groups[..] {
        [first, .., last] => {
            let inner = &groups[1..groups.len() - 1];
            let thousands = first.len() <= 3 && inner.iter().all(|group| group.len() == 3);
            let indian = separator == Some(',') && first.len() <= 2 && inner.iter().all(|group| group.len() == 2);
            last.len() == 3 && !first.starts_with('0') && (thousands || indian)
        }
        _ => true,
    };
    let is_number = groups.iter().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    (is_valid && is_number).then(|| groups.concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_count_is_read_as_it_is_written() {
        for (text, expected) in [
            ("0", 0),
            ("12345", 12_345),
            ("00012", 12),
            ("640000000", 640_000_000),
            ("12,345", 12_345),
            ("12.345", 12_345),
            ("1.000", 1000),
            ("1.234.567", 1_234_567),
            ("1,234,567", 1_234_567),
            ("1 234 567", 1_234_567),
            ("1\u{a0}234\u{a0}567", 1_234_567),
            ("12\u{202f}345", 12_345),
            ("1'234'567", 1_234_567),
            ("1\u{2019}234\u{2019}567", 1_234_567),
            ("1_234", 1234),
            ("1,00,000", 100_000),
            ("12,50,000", 1_250_000),
            ("1,23,45,678", 12_345_678),
            ("1204.0", 1204),
            ("1,204.0", 1204),
            ("1.204,00", 1204),
            (" 1,204\n", 1204),
            ("\u{200e}1,204\u{200f}", 1204),
            ("１２", 12),
            ("１，２３４", 1234),
            ("१२", 12),
            ("١٢٬٣٤٥", 12_345),
            ("۱۲۳", 123),
        ] {
            assert_eq!(count(&json!(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_abbreviated_count_is_read_as_it_is_meant() {
        for (text, expected) in [
            ("1.2M", 1_200_000),
            ("1,2 m", 1_200_000),
            ("1.23M", 1_230_000),
            ("1.125k", 1125),
            ("999.999M", 999_999_000),
            ("15K", 15_000),
            ("0.9k", 900),
            ("0,900K", 900),
            ("0.5b", 500_000_000),
            ("1,234K", 1_234_000),
            ("1234K", 1_234_000),
            ("12,345K", 12_345_000),
            ("1,234.5K", 1_234_500),
            ("1.234,5K", 1_234_500),
            ("1,2 Mio.", 1_200_000),
            ("10,5\u{a0}Mio.", 10_500_000),
            ("12 Tsd.", 12_000),
            ("1,5 млн", 1_500_000),
            ("12.3万", 123_000),
            ("1.2億", 120_000_000),
        ] {
            assert_eq!(count(&json!(text)), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_or_is_no_count_is_unknown() {
        for text in [
            "",
            " ",
            "M",
            "many",
            "nan",
            "NaN",
            "inf",
            "-1",
            "-12k",
            "+12",
            "1e5",
            "1e20",
            "0x10",
            "1.5",
            "12,3",
            "1,0",
            "0.125",
            "100,00",
            "1,2,3",
            "1,2345",
            "0,000",
            "12 34",
            "12\n345",
            "2.50,000",
            "1.234.5",
            "1,234.567",
            "1234,567",
            "1000.000",
            "5.",
            ".5M",
            "12k+",
            ">1M",
            "≈1M",
            "~5k",
            "1.2KK",
            "1.2 mil",
            "1,234M",
            "1,234 Mio.",
            "9999999999999M",
            "1.2M followers",
            "12/34",
            "10²",
            "½",
            "1.000k.000",
        ] {
            assert_eq!(count(&json!(text)), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_a_count_if_it_is_whole_and_possible() {
        for (value, expected) in [
            (json!(0), Some(0)),
            (json!(-0.0), Some(0)),
            (json!(1_200_000.0), Some(1_200_000)),
            (json!(null), None),
            (json!(-1), None),
            (json!(-3.0), None),
            (json!(1.5), None),
            (json!(1e20), None),
            (json!(1e300), None),
            (json!(u64::MAX), None),
            (json!(4_611_686_018_427_387_904_i64), None),
            (json!(true), None),
            (json!([1]), None),
            (json!({"count": 1}), None),
        ] {
            assert_eq!(count(&value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_has_an_impossible_count(text in "\\PC{0,12}|[0-9.,' kKmM+-]{0,14}") {
            prop_assert!(count(&json!(text)).is_none_or(|count| (0..=MAX).contains(&count)), "{text}");
        }

        #[test]
        fn a_count_is_the_same_with_and_without_separators(number in 1000..MAX, separator in "[,. '_\u{a0}]") {
            let digits = number.to_string();
            let mut grouped = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    grouped.push_str(&separator);
                }
                grouped.push(digit);
            }
            prop_assert_eq!((count(&json!(grouped)), count(&json!(digits))), (Some(number), Some(number)));
        }
    }
}
