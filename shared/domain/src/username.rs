//! Instagram handles in their one canonical form.

mod address;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use address::Pasted;

/// A canonical Instagram handle: lower-case, 1 to 30 of `a-z 0-9 . _`, no leading, trailing or double dot.
///
/// Parsing accepts what people paste: surrounding blanks, a leading `@`, upper case, the address of the profile or of something that names its
/// owner. So the same person is the same lead however the handle was written. An address without an owner, such as that of a post, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

/// Why a text is not a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsername {
    /// It has not the form of one.
    #[error("expected an Instagram handle: 1 to 30 letters, digits, dots and underscores, no leading, trailing or double dot")]
    Malformed,
    /// It is an address that does not name an account.
    #[error("expected an Instagram handle or the address of a profile, not the address of {0}")]
    Address(Pasted),
    /// Instagram uses the name in its own addresses, so that no account has it.
    #[error("expected an Instagram handle, not a name that Instagram uses for its own pages")]
    Reserved,
}

impl Username {
    /// Returns the handle without `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = InvalidUsername;

    fn from_str(text: &str) -> Result<Self, InvalidUsername> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        let owner = address::owner(text)?;
        let handle = owner.as_deref().unwrap_or(text);
        // ASCII only: Unicode lower-casing turns some look-alikes (such as the Kelvin sign) into a valid letter.
        let handle = handle.strip_prefix('@').unwrap_or(handle).to_ascii_lowercase();
        let valid = (1..=30).contains(&handle.len())
            && handle.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_')
            && !handle.starts_with('.')
            && !handle.ends_with('.')
            && !handle.contains("..");
        match (valid, address::reserved(&handle)) {
            (true, None) => Ok(Self(handle)),
            (true, Some(_)) => Err(InvalidUsername::Reserved),
            (false, _) => Err(InvalidUsername::Malformed),
        }
    }
}

/// Whether a character has no width: text copied from an app is often enclosed in marks of its direction.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
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
                "description": "An Instagram handle as people paste it: with `@`, in upper case, or the address of the profile.",
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
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, InvalidUsername> {
        text.parse::<Username>().map(String::from)
    }

    #[test]
    fn every_pasted_form_becomes_the_same_handle() {
        for text in [
            "nike.run_1",
            " @Nike.Run_1 ",
            "\u{200e}@nike.run_1\u{200f}",
            "https://www.instagram.com/NIKE.run_1/?hl=en",
            "http://instagram.com/nike.run_1",
            "instagram.com/nike.run_1/reels/",
            "HTTPS://m.instagram.com/nike.run_1#x",
            "Instagram.com/@Nike.run_1?igsh=MzRlODBiNWFlZA==&utm_source=qr",
            "https://www.instagram.com/stories/nike.run_1/3412345678901234567/",
            "https://www.instagram.com/_u/nike.run_1",
            "https://www.instagram.com/nike.run_1/p/CxAbCdEfGhI/",
            "https://www.instagram.com/nike.run_1/reel/CxAbCdEfGhI/?igsh=x",
            "https://www.instagram.com/nike.run_1/tagged/",
            "https://www.instagram.com/accounts/login/?next=%2Fnike.run_1%2F&source=x",
            "instagram://user?username=nike.run_1",
            "https://ig.me/m/nike.run_1",
            "https://instagr.am/nike.run_1",
            "https://www.instagram.com/nike.run_1/ our best customer",
            "See (https://www.instagram.com/nike.run_1/), please.",
        ] {
            assert_eq!(parsed(text), Ok("nike.run_1".to_owned()), "{text}");
        }
        assert_eq!(parsed("instagram.comedy"), Ok("instagram.comedy".to_owned()));
    }

    #[test]
    fn an_address_without_an_owner_is_refused_and_named() {
        use Pasted::{AnotherSite, InstagramPage, Post, Reel, SharedLink, Story, TagOrPlace};
        for (text, pasted) in [
            ("https://www.instagram.com/p/CxAbCdEfGhI/", Post),
            ("HTTPS://WWW.INSTAGRAM.COM/P/CxAbCdEfGhI/?img_index=1", Post),
            ("instagram.com/tv/CxAbCdEfGhI", Post),
            ("m.instagram.com/reel/CxAbCdEfGhI/", Reel),
            ("https://www.instagram.com/reels/CxAbCdEfGhI/", Reel),
            ("https://www.instagram.com/reels/audio/123456/", Reel),
            ("https://www.instagram.com/stories/highlights/17900000000000000/", Story),
            ("https://www.instagram.com/s/aGlnaGxpZ2h0OjE3?story_media_id=1", Story),
            ("https://www.instagram.com/share/BAbCdEfGhI", SharedLink),
            ("https://www.instagram.com/share/reel/BAbCdEfGhI", SharedLink),
            ("https://l.instagram.com/?u=https%3A%2F%2Fshop.example", SharedLink),
            ("https://www.instagram.com/explore/tags/coffee/", TagOrPlace),
            ("https://www.instagram.com/explore/locations/213385402/berlin/", TagOrPlace),
            ("https://www.instagram.com/explore/", InstagramPage),
            ("https://www.instagram.com/accounts/login/", InstagramPage),
            ("https://www.instagram.com/direct/inbox/", InstagramPage),
            ("https://www.instagram.com/about/us", InstagramPage),
            ("https://www.instagram.com/_n/mainfeed", InstagramPage),
            ("https://www.instagram.com/_u/", InstagramPage),
            ("https://www.instagram.com/stories/", InstagramPage),
            ("https://www.instagram.com/", InstagramPage),
            ("instagram.com", InstagramPage),
            ("www.instagram.com?hl=en", InstagramPage),
            ("https://help.instagram.com/1234", InstagramPage),
            ("https://www.facebook.com/nike", AnotherSite),
            ("nike.example/instagram", AnotherSite),
            ("https://www.instagram.com@evil.example/nike", AnotherSite),
            ("https://www.instagram.com.evil.example/nike", AnotherSite),
            ("ftp://www.instagram.com/nike", AnotherSite),
        ] {
            assert_eq!(parsed(text), Err(InvalidUsername::Address(pasted)), "{text}");
        }
        let message = parsed("https://www.instagram.com/p/CxAbCdEfGhI/").unwrap_err().to_string();
        assert_eq!(message, "expected an Instagram handle or the address of a profile, not the address of a post");
    }

    #[test]
    fn a_handle_that_instagram_does_not_allow_is_rejected() {
        let long = "a".repeat(31);
        for text in [
            "",
            "@",
            " ",
            ".a",
            "a.",
            "a..b",
            "a b",
            "@nike and more",
            "a-b",
            "a/b",
            "ümlaut",
            "K\u{212a}",
            &long,
            "@@a",
            "https://",
            "https://instagram.com/a%20b",
            "https://instagram.com/a..b/",
            "instagram.com/nike instagram.com/adidas",
        ] {
            assert_eq!(parsed(text), Err(InvalidUsername::Malformed), "{text}");
        }
        assert!("a".repeat(30).parse::<Username>().is_ok());
    }

    #[test]
    fn a_name_of_instagrams_own_pages_is_no_handle() {
        for text in ["p", "@Reel", "explore", "stories", "accounts", "_u", "https://www.instagram.com/stories/explore/1"] {
            assert_eq!(parsed(text), Err(InvalidUsername::Reserved), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_handle_is_canonical(text in "(https?://)?(www\\.|m\\.)?(instagram\\.com/)?[@a-zA-Z0-9._/?#=& %\\PC]{0,40}") {
            if let Ok(username) = text.parse::<Username>() {
                prop_assert_eq!(username.as_str().parse::<Username>(), Ok(username.clone()));
            }
        }
    }
}
