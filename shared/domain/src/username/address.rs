//! Addresses of Instagram: which account they name, if any.

use strum::Display;
use url::Url;

use super::InvalidUsername;

/// What an address leads to that does not name an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Pasted {
    /// A post. Its address has only its own code.
    #[strum(to_string = "a post")]
    Post,
    /// A reel, or the reels with a sound.
    #[strum(to_string = "a reel")]
    Reel,
    /// Highlighted stories.
    #[strum(to_string = "a story")]
    Story,
    /// A link that Instagram made for sharing. Only Instagram knows where it leads.
    #[strum(to_string = "a shared link")]
    SharedLink,
    /// A hashtag or a place.
    #[strum(to_string = "a hashtag or place")]
    TagOrPlace,
    /// A page of Instagram itself.
    #[strum(to_string = "a page of Instagram itself")]
    InstagramPage,
    /// A page elsewhere.
    #[strum(to_string = "a page that is not on Instagram")]
    AnotherSite,
}

/// Returns what the first segment of a path on Instagram stands for, if that is not an account.
pub(super) fn reserved(segment: &str) -> Option<Pasted> {
    Some(match segment {
        "p" | "tv" => Pasted::Post,
        "reel" | "reels" => Pasted::Reel,
        "s" | "stories" => Pasted::Story,
        "share" => Pasted::SharedLink,
        "explore" | "accounts" | "direct" | "about" | "_u" | "_n" | "api" | "challenge" | "developer" | "directory" | "emails"
        | "graphql" | "legal" | "oauth" | "session" | "web" => Pasted::InstagramPage,
        _ => return None,
    })
}

/// Returns the account that an address in `text` names, as it is written there. `None` if the text has no address. Words around the address are
/// ignored; a second address makes it ambiguous.
pub(super) fn owner(text: &str) -> Result<Option<String>, InvalidUsername> {
    let mut addresses = text.split_whitespace().map(without_punctuation).filter(|word| is_address(word));
    match (addresses.next(), addresses.next()) {
        (None, _) => Ok(None),
        (Some(address), None) => named_by(address).map(Some),
        (Some(_), Some(_)) => Err(InvalidUsername::Malformed),
    }
}

/// Returns a word of a sentence without the punctuation around it.
fn without_punctuation(word: &str) -> &str {
    word.trim_start_matches(['(', '[', '<', '"', '\'']).trim_end_matches([')', ']', '>', '"', '\'', ',', ';', ':', '!'])
}

fn is_address(word: &str) -> bool {
    if word.contains("://") {
        return true;
    }
    let host = word.split(['/', '?', '#']).next().unwrap_or(word);
    // A handle may contain dots, but no slash.
    is_instagram(&host.to_ascii_lowercase()) || (host.len() < word.len() && host.contains('.') && !host.starts_with('@'))
}

fn is_instagram(host: &str) -> bool {
    let host = host.strip_prefix("www.").or_else(|| host.strip_prefix("m.")).unwrap_or(host);
    matches!(host, "instagram.com" | "instagr.am")
}

/// Returns the account that an address names.
fn named_by(address: &str) -> Result<String, InvalidUsername> {
    let with_scheme = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&with_scheme).map_err(|_| InvalidUsername::Malformed)?;
    let parameter = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
    if url.scheme() == "instagram" {
        return parameter("username").ok_or(InvalidUsername::Address(Pasted::InstagramPage));
    }
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    // In `https://www.instagram.com@shop.example/` the host is the shop.
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
        return Err(InvalidUsername::Address(Pasted::AnotherSite));
    }
    if is_instagram(host) {
        return in_path(url.path()).or_else(|error| match parameter("next") {
            // The page to sign in continues to the one that was requested.
            Some(next) if next.starts_with('/') => in_path(&next),
            _ => Err(error),
        });
    }
    Err(InvalidUsername::Address(match (host, &segments(url.path())[..]) {
        ("ig.me", ["m", name]) => return Ok((*name).to_owned()),
        ("l.instagram.com", _) => Pasted::SharedLink,
        (host, _) if host.ends_with(".instagram.com") => Pasted::InstagramPage,
        _ => Pasted::AnotherSite,
    }))
}

fn segments(path: &str) -> Vec<&str> {
    path.split(['/', '?', '#']).filter(|segment| !segment.is_empty()).collect()
}

/// Returns the account that a path on Instagram names.
fn in_path(path: &str) -> Result<String, InvalidUsername> {
    let pasted = match segments(&path.to_ascii_lowercase())[..] {
        [] | ["stories"] => Pasted::InstagramPage,
        ["stories", "highlights", ..] => Pasted::Story,
        ["stories" | "_u", name, ..] => return Ok(name.to_owned()),
        ["explore", "tags" | "locations", ..] => Pasted::TagOrPlace,
        [first, ..] => match reserved(first) {
            Some(pasted) => pasted,
            None => return Ok(first.to_owned()),
        },
    };
    Err(InvalidUsername::Address(pasted))
}
