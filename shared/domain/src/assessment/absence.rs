//! Texts that say there is nothing to say. Models write them where a list should be empty.

use crate::text::folded;

/// Texts that stand for nothing, as their words in lower case.
const PLACEHOLDERS: [&str; 26] = [
    "",
    "none",
    "null",
    "nil",
    "n a",
    "na",
    "no",
    "nothing",
    "not applicable",
    "not available",
    "undefined",
    "keine",
    "keiner",
    "ninguna",
    "ninguno",
    "aucun",
    "aucune",
    "nessuna",
    "nessuno",
    "nenhum",
    "nenhuma",
    "\u{43d}\u{435}\u{442}",
    "yok",
    "\u{65e0}",
    "\u{6ca1}\u{6709}",
    "\u{306a}\u{3057}",
];
const NONE: [&str; 4] = ["none", "nothing", "no", "na"];
/// What there may be none of. Each may stand once, or once for each `or`.
const CONCERNS: [&str; 10] = ["flag", "flags", "concern", "concerns", "issue", "issues", "problem", "problems", "signs", "caution"];
/// Words that only qualify that there is none.
const FILLERS: [&str; 52] = [
    "a",
    "any",
    "apparent",
    "are",
    "at",
    "can",
    "caution",
    "clear",
    "concerning",
    "currently",
    "detected",
    "evident",
    "evidence",
    "far",
    "for",
    "found",
    "here",
    "identifiable",
    "identified",
    "immediate",
    "is",
    "major",
    "material",
    "moment",
    "n",
    "noted",
    "noticed",
    "notable",
    "observed",
    "obvious",
    "of",
    "or",
    "particular",
    "present",
    "raise",
    "reasons",
    "red",
    "report",
    "seen",
    "serious",
    "significant",
    "so",
    "specific",
    "spotted",
    "stand",
    "the",
    "there",
    "this",
    "time",
    "to",
    "warning",
    "were",
];
/// Where there are none of the concerns. `Nothing in the posts` is a concern by itself.
const PLACES: [&str; 18] = [
    "account",
    "based",
    "bio",
    "captions",
    "content",
    "data",
    "from",
    "given",
    "in",
    "on",
    "posts",
    "profile",
    "provided",
    "that",
    "visible",
    "was",
    "with",
    "available",
];

/// Whether a text has no letter or digit, or stands for nothing, as `N/A` does.
pub(super) fn is_placeholder(text: &str) -> bool {
    PLACEHOLDERS.contains(&words(text).join(" ").as_str())
}

/// Whether a text says that there is nothing to be careful about. Every word must be part of that: `No red flags besides bought followers` and
/// `No contact data` are reasons for caution.
pub(super) fn says_none(text: &str) -> bool {
    let words = words(text);
    let is = |list: &'static [&str]| move |word: &&String| list.contains(&word.as_str());
    let concerns = words.iter().filter(is(&CONCERNS)).count();
    let joints = words.iter().filter(|word| *word == "or").count();
    let denies = words.iter().any(|word| is(&NONE)(&word)) || words.starts_with(&["n".to_owned(), "a".to_owned()]);
    let is_known = |word: &String| is(&NONE)(&word) || is(&CONCERNS)(&word) || is(&FILLERS)(&word) || (concerns > 0 && is(&PLACES)(&word));
    let names_what = concerns > 0 || words.first().is_some_and(|first| ["none", "nothing"].contains(&first.as_str()));
    is_placeholder(text) || (denies && names_what && concerns <= joints + 1 && words.iter().all(is_known))
}

fn words(text: &str) -> Vec<String> {
    folded(text).split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_says_there_is_none_is_no_red_flag() {
        for text in [
            "None",
            "none.",
            "NONE",
            "N/A",
            "n/a",
            "NA",
            "-",
            "\u{2014}",
            "...",
            "\u{1f6a9}",
            "null",
            "No",
            "Nothing",
            "Not applicable.",
            "Keine",
            "No red flags",
            "No red flags.",
            "No red flags identified.",
            "No major red flags were found.",
            "There are no obvious concerns.",
            "None identified",
            "None so far",
            "None at this time.",
            "None (no red flags)",
            "N/A - no red flags",
            "No issues or concerns noted",
            "No warning signs",
            "No significant concerns identified in the profile.",
            "No red flags based on the data provided",
            "No reasons for caution",
            "Nothing to report",
            "Nothing of concern",
            "No red flag was detected",
            "**None**",
            "\"None\"",
        ] {
            assert!(says_none(text), "{text}");
        }
    }

    #[test]
    fn a_reason_for_caution_is_kept_although_it_denies_something() {
        for text in [
            "Bought followers",
            "None of the posts show the owner",
            "No red flags besides bought followers",
            "No contact data",
            "No data available",
            "No bio",
            "No posts",
            "No recent posts",
            "Nothing in the posts",
            "Nothing posted since May",
            "No signs of engagement",
            "No risk warnings",
            "No flags, but the audience is small",
            "No concern for disclosure of ads",
            "Not a business",
            "No clear niche",
            "No profile picture visible",
            "Issues with an earlier partner",
            "Red flag: only reposts",
            "There is a concern",
            "No response to problems in comments",
            "No evidence of sales",
            "N",
            "Not in Lisbon",
            "Profile is private, none visible",
        ] {
            assert!(!says_none(text), "{text}");
        }
    }

    #[test]
    fn only_a_text_that_says_nothing_is_a_placeholder() {
        for text in ["", " ", "\n", "-", "\u{1f44b}\u{2728}", "N/A", "None.", "null"] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["No red flags", "Nothing but yoga", "70", "\u{69cb}\u{3044}\u{307e}\u{305b}\u{3093}", "No one posts more", "Nina"] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
