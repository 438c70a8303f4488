//! HTTP with a vendor: one request, a bounded answer, the failures that all vendors share.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::VendorError;

/// The client that the vendors' clients share: connections are kept, redirects are not followed (an API has none, and a
/// credential must not travel), an unreachable host is noticed in seconds.
///
/// # Errors
/// When TLS cannot be set up.
pub fn http_client() -> reqwest::Result<Client> {
    oslira_tls::http_builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_mins(1))
        .user_agent(concat!("oslira/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Sends a request and reads at most `max_bytes` of its answer within `timeout`.
    pub(crate) async fn to(request: RequestBuilder, timeout: Duration, max_bytes: usize) -> Result<Self, VendorError> {
        let mut response = request.timeout(timeout).send().await.map_err(|error| transport(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
            if body.len() + chunk.len() > max_bytes {
                return Err(VendorError::Invalid("too large"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, headers, body })
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, VendorError> {
        json(&self.body).ok_or(VendorError::Invalid("not the documented JSON"))
    }

    /// How long the vendor asks us to wait: in milliseconds, in seconds or until a date.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<u64>().ok()) {
            return Some(Duration::from_millis(millis));
        }
        let text = text("retry-after")?;
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(date.duration_since(Timestamp::now()).try_into().unwrap_or_default())
    }

    /// The error of a status that every vendor uses alike. `code` is the vendor's, made safe by [`code`]; what only one
    /// vendor says is that vendor's business, before it asks here.
    pub(crate) fn error(&self, code: String) -> VendorError {
        match self.status.as_u16() {
            401 | 403 => VendorError::Unauthorized,
            402 => VendorError::QuotaExhausted(code),
            429 => VendorError::RateLimited { retry_after: self.retry_after() },
            status @ (408 | 409 | 500..) => VendorError::Overloaded(status),
            status => VendorError::Rejected { status, code },
        }
    }
}

/// A vendor's error code, if it reads like one: it is logged, and a sentence might quote what we sent.
pub(crate) fn code(text: Option<&str>) -> String {
    let fits = |text: &&str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    text.filter(fits).unwrap_or("no code").to_owned()
}

/// A connection that broke after the request had been sent, or while it was.
pub(crate) const BROKEN_OFF: &str = "broken off";

/// Only the kind is kept: reqwest's own text holds the URL.
fn transport(error: &reqwest::Error) -> VendorError {
    if error.is_timeout() {
        VendorError::Timeout
    } else if error.is_connect() {
        VendorError::Transport("no connection")
    } else if error.is_builder() {
        VendorError::Transport("no valid address or header")
    } else {
        VendorError::Transport(BROKEN_OFF)
    }
}

/// Reads JSON. Texts cut in the middle of an emoji leave half a surrogate pair, which JSON's grammar allows and Rust's strings do not:
/// one such caption must not cost a whole dataset.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_slice(&without_lone_surrogates(bytes))).ok()
}

/// The same JSON with U+FFFD for each lone surrogate.
fn without_lone_surrogates(json: &[u8]) -> Vec<u8> {
    let escape = |at: usize| {
        let hex = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let mut mended = Vec::with_capacity(json.len());
    let mut at = 0;
    while at < json.len() {
        let length = match (escape(at), escape(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            _ if json[at] == b'\\' => 2,
            _ => 1,
        };
        let end = (at + length).min(json.len());
        mended.extend_from_slice(&json[at..end]);
        at = end;
    }
    mended
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &str)]) -> Reply {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect();
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: Vec::new() }
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let wait = |headers: &[(&'static str, &str)]| reply(429, headers).retry_after();
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "9")]), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[("retry-after", "9")]), Some(Duration::from_secs(9)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(Duration::ZERO));
        assert!(wait(&[("retry-after", "Thu, 31 Dec 2099 23:59:59 GMT")]).unwrap() > Duration::from_hours(24));
        assert_eq!([wait(&[("retry-after", "soon")]), wait(&[])], [None, None]);
    }

    #[test]
    fn statuses_have_one_meaning() {
        let error = |status| reply(status, &[]).error("c".to_owned());
        assert_eq!([error(401), error(403)], [VendorError::Unauthorized, VendorError::Unauthorized]);
        assert_eq!(error(402), VendorError::QuotaExhausted("c".to_owned()));
        assert_eq!(error(429), VendorError::RateLimited { retry_after: None });
        for status in [408, 409, 500, 503, 529] {
            assert_eq!(error(status), VendorError::Overloaded(status));
        }
        assert_eq!(error(404), VendorError::Rejected { status: 404, code: "c".to_owned() });
    }

    #[test]
    fn only_what_reads_like_a_code_is_kept() {
        assert_eq!(code(Some("insufficient_quota")), "insufficient_quota");
        for text in [None, Some(""), Some("Sorry, @jane said hi"), Some(&"x".repeat(65))] {
            assert_eq!(code(text), "no code");
        }
    }

    #[test]
    fn half_an_emoji_does_not_cost_the_document() {
        let read = |text: &str| json::<String>(text.as_bytes());
        assert_eq!(read(r#""a\ud83d b""#).as_deref(), Some("a\u{fffd} b"));
        assert_eq!(read(r#""\ude00\ud83d\ude00\ud83d""#).as_deref(), Some("\u{fffd}\u{1f600}\u{fffd}"));
        assert_eq!(read(r#""\\ud83d \ud83d\n""#).as_deref(), Some("\\ud83d \u{fffd}\n"));
        assert_eq!([read(r#""\ud83d"#), read("\"\\")], [None, None]);
    }
}
