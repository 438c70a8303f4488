//! The numbers and texts of answers. Their values are valid; what a model writes in another form with the same meaning is read as that.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::absence::{is_placeholder, says_none};
use crate::text::shown;

/// A number as models write it: plainly, or as a part of a hundred (`72%`, `85/100`, `7/10`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub(super) enum Quantity {
    Plain(f64),
    OfHundred(f64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl TryFrom<Written> for Quantity {
    type Error = &'static str;
    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Number(number) => Ok(Self::Plain(number)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Quantity {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let decimal = |text: &str| {
            let text = text.trim();
            // `f64` also reads `inf` and `1e2`.
            let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            text.parse::<f64>().ok().filter(|_| is_decimal).ok_or("a number")
        };
        if let Some(share) = text.trim().strip_suffix('%') {
            return decimal(share).map(Self::OfHundred);
        }
        match text.split_once('/').or_else(|| text.split_once("out of")) {
            None => decimal(text).map(Self::Plain),
            Some((part, whole)) => match whole.trim() {
                "100" => decimal(part).map(Self::OfHundred),
                "10" => decimal(part).map(|part| Self::OfHundred(part * 10.0)),
                _ => Err("a number"),
            },
        }
    }
}

/// An integer from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Quantity", into = "u8")]
#[schemars(with = "i64", inline)]
pub struct Score(u8);

impl TryFrom<Quantity> for Score {
    type Error = &'static str;
    fn try_from(quantity: Quantity) -> Result<Self, Self::Error> {
        let (Quantity::Plain(number) | Quantity::OfHundred(number)) = quantity;
        number.try_into()
    }
}

impl TryFrom<f64> for Score {
    type Error = &'static str;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0 to 100")]
    fn try_from(number: f64) -> Result<Self, Self::Error> {
        // A model may write 72 as 72.0, or 72.5 although whole numbers are requested. A number outside of the scale has another meaning, and so
        // has a part of one.
        let is_part_of_one = number > 0.0 && number < 1.0;
        if (0.0..=100.0).contains(&number) && !is_part_of_one { Ok(Self(number.round() as u8)) } else { Err("a number from 0 to 100") }
    }
}

impl From<Score> for u8 {
    fn from(score: Score) -> Self {
        score.0
    }
}

impl From<Score> for i16 {
    fn from(score: Score) -> Self {
        score.0.into()
    }
}

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Quantity", into = "f64")]
#[schemars(with = "f64", inline)]
pub struct Confidence(f64);

impl TryFrom<Quantity> for Confidence {
    type Error = &'static str;
    fn try_from(quantity: Quantity) -> Result<Self, Self::Error> {
        match quantity {
            // 75 is a percentage. What 1.5 or 8 is a part of is not known.
            Quantity::Plain(number) if number > 10.0 => Self::try_from(number / 100.0),
            Quantity::Plain(number) => number.try_into(),
            Quantity::OfHundred(number) => Self::try_from(number / 100.0),
        }
    }
}

impl TryFrom<f64> for Confidence {
    type Error = &'static str;
    fn try_from(number: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err("a number from 0 to 1") }
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

/// A text that says something: it is neither empty nor without any letter or digit, nor a placeholder such as `N/A`.
// Characters that show nothing are removed or become blanks: the database cannot store all of them, and they can hide text from a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub struct Text(String);

impl TryFrom<String> for Text {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let kept = shown(&text);
        let kept = kept.trim();
        if is_placeholder(kept) { Err("a text") } else { Ok(Self(kept.to_owned())) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// The most entries of a list that are kept.
pub const MAX_ENTRIES: usize = 8;

/// A list of texts. Entries that say nothing or are repeated are left out: the rest of the answer is paid for. Null is a list without entries, and
/// a text a list of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(with = "Vec<Text>", inline)]
pub struct Texts(Vec<Text>);

impl FromIterator<String> for Texts {
    fn from_iter<T: IntoIterator<Item = String>>(entries: T) -> Self {
        let mut kept: Vec<Text> = Vec::new();
        for entry in entries.into_iter().filter_map(|entry| Text::try_from(entry).ok()) {
            if kept.len() < MAX_ENTRIES && !kept.contains(&entry) {
                kept.push(entry);
            }
        }
        Self(kept)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Texts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element::<Option<String>>()? {
                    entries.extend(entry);
                }
                Ok(entries.into_iter().collect())
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(std::iter::once(text.to_owned()).collect())
            }

            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }
        }
        // Not `deserialize_option`, by which a missing field would be an empty list.
        source.deserialize_any(Entries)
    }
}

/// The red flags of a lead. Models write that there are none as an entry, which is not one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Texts")]
#[schemars(with = "Vec<Text>", inline)]
pub struct RedFlags(Vec<Text>);

impl From<Texts> for RedFlags {
    fn from(texts: Texts) -> Self {
        Self(texts.0.into_iter().filter(|Text(text)| !says_none(text)).collect())
    }
}
