//! HTTP with a vendor: one request, a response of bounded size, and the failures that all vendors have in common.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::VendorError;

/// Makes the client that the vendors' clients share. It keeps connections, does not follow redirects (an API has none, and a credential must
/// not go to another host), and detects an unreachable host within seconds.
///
/// # Errors
/// Fails when TLS cannot be set up.
pub fn http_client() -> reqwest::Result<Client> {
    oslira_tls::http_builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_mins(1))
        .user_agent(concat!("oslira/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Sends a request and reads at most `max_bytes` of its response within `timeout`.
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

    /// Returns the response as it would be with another status.
    pub(crate) fn with_status(&self, status: StatusCode) -> Self {
        Self { status, headers: self.headers.clone(), body: self.body.clone() }
    }

    /// Parses the body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, VendorError> {
        json(&self.body).ok_or(VendorError::Invalid("not the documented JSON"))
    }

    /// Returns how long the vendor says to wait: in milliseconds, in seconds or until a date.
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

    /// Returns the error of a status that has the same meaning for every vendor. `code` is the vendor's, checked by [`code`]. Each client
    /// handles its vendor's own meanings first.
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

/// Returns a vendor's error code, if it has the form of a code. It is logged, and a sentence might quote the request.
pub(crate) fn code(text: Option<&str>) -> String {
    let fits = |text: &&str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    text.filter(fits).unwrap_or("no code").to_owned()
}

/// A connection that broke while the request was sent, or after that.
pub(crate) const BROKEN_OFF: &str = "broken off";

/// Keeps only the kind, because reqwest's own text contains the URL.
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

/// Parses JSON. A text that was cut in the middle of an emoji ends with a lone surrogate, which JSON's grammar allows and Rust's strings do
/// not. One such caption must not fail a whole dataset.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_slice(&without_lone_surrogates(bytes))).ok()
}

/// Replaces each lone surrogate by U+FFFD.
pub(crate) fn without_lone_surrogates(json: &[u8]) -> Vec<u8> {
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

/// Returns a number without a fraction as an integer. One that is too large becomes the largest integer: the caller has bounds, which are far below
/// 2^53, where every integer is exact.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
pub(crate) fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0).then_some(number as i64)
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
    fn every_form_of_retry_after_is_read() {
        let wait = |headers: &[(&'static str, &str)]| reply(429, headers).retry_after();
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "9")]), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[("retry-after", "9")]), Some(Duration::from_secs(9)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(Duration::ZERO));
        assert!(wait(&[("retry-after", "Thu, 31 Dec 2099 23:59:59 GMT")]).unwrap() > Duration::from_hours(24));
        assert_eq!([wait(&[("retry-after", "soon")]), wait(&[])], [None, None]);
    }

    #[test]
    fn each_status_has_its_meaning() {
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
    fn only_a_text_with_the_form_of_a_code_is_kept() {
        assert_eq!(code(Some("insufficient_quota")), "insufficient_quota");
        for text in [None, Some(""), Some("Sorry, @jane said hi"), Some(&"x".repeat(65))] {
            assert_eq!(code(text), "no code");
        }
    }

    #[test]
    fn half_an_emoji_does_not_fail_the_document() {
        let read = |text: &str| json::<String>(text.as_bytes());
        assert_eq!(read(r#""a\ud83d b""#).as_deref(), Some("a\u{fffd} b"));
        assert_eq!(read(r#""\ude00\ud83d\ude00\ud83d""#).as_deref(), Some("\u{fffd}\u{1f600}\u{fffd}"));
        assert_eq!(read(r#""\\ud83d \ud83d\n""#).as_deref(), Some("\\ud83d \u{fffd}\n"));
        assert_eq!([read(r#""\ud83d"#), read("\"\\")], [None, None]);
    }
}
