//! Instagram handles in their one canonical form.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A canonical Instagram handle: lower-case, 1 to 30 of `a-z 0-9 . _`, no leading, trailing or double dot.
///
/// Parsing accepts what people paste: surrounding blanks, a leading `@`, upper case, the URL of the profile. So the same person is the same
/// lead however the handle was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

/// A text that is not a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an Instagram handle: 1 to 30 letters, digits, dots and underscores, no leading, trailing or double dot")]
pub struct InvalidUsername;

impl Username {
    /// Returns the handle without `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the handle in a pasted text: without `@`, scheme, host and everything after the first path segment.
fn strip(text: &str) -> &str {
    let text = text.trim();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let rest = rest.strip_prefix("www.").unwrap_or(rest);
    let path = rest.strip_prefix("instagram.com/").or_else(|| rest.strip_prefix("m.instagram.com/"));
    match path {
        Some(path) => path.split(['/', '?', '#']).next().unwrap_or(path),
        None => text.strip_prefix('@').unwrap_or(text),
    }
}

impl FromStr for Username {
    type Err = InvalidUsername;

    fn from_str(text: &str) -> Result<Self, InvalidUsername> {
        // ASCII only: Unicode lower-casing turns some look-alikes (such as the Kelvin sign) into a valid letter.
        let lower = text.to_ascii_lowercase();
        let handle = strip(&lower);
        let valid = (1..=30).contains(&handle.len())
            && handle.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_')
            && !handle.starts_with('.')
            && !handle.ends_with('.')
            && !handle.contains("..");
        if valid { Ok(Self(handle.to_owned())) } else { Err(InvalidUsername) }
    }
}

impl JsonSchema for Username {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Username".into()
    }

    /// Describes the accepted forms for input, and the canonical one for output.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            json_schema!({
                "type": "string",
                "minLength": 1,
                "description": "An Instagram handle as people paste it: with `@`, in upper case, or the URL of the profile.",
                "examples": ["@Nike", "https://www.instagram.com/nike/"],
            })
        } else {
            json_schema!({
                "type": "string",
                "pattern": "^(?!.*[.][.])[a-z0-9_]([a-z0-9._]{0,28}[a-z0-9_])?$",
                "description": "A canonical Instagram handle: lower-case, without `@`.",
            })
        }
    }
}

impl TryFrom<String> for Username {
    type Error = InvalidUsername;
    fn try_from(text: String) -> Result<Self, InvalidUsername> {
        text.parse()
    }
}

impl From<Username> for String {
    fn from(username: Username) -> Self {
        username.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pasted_form_becomes_the_same_handle() {
        for text in [
            "nike.run_1",
            " @Nike.Run_1 ",
            "https://www.instagram.com/NIKE.run_1/?hl=en",
            "http://instagram.com/nike.run_1",
            "instagram.com/nike.run_1/reels/",
            "HTTPS://m.instagram.com/nike.run_1#x",
        ] {
            assert_eq!(text.parse::<Username>().map(String::from), Ok("nike.run_1".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_handle_that_instagram_does_not_allow_is_rejected() {
        let long = "a".repeat(31);
        for text in ["", "@", " ", ".a", "a.", "a..b", "a b", "a-b", "a/b", "ümlaut", "K\u{212a}", "https://instagram.com/", &long, "@@a"]
        {
            assert_eq!(text.parse::<Username>(), Err(InvalidUsername), "{text}");
        }
        assert!("a".repeat(30).parse::<Username>().is_ok());
    }
}
