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
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(60))
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
        serde_json::from_slice(&self.body).map_err(|_| VendorError::Invalid("not the documented JSON"))
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

/// Only the kind is kept: reqwest's own text holds the URL.
fn transport(error: &reqwest::Error) -> VendorError {
    if error.is_timeout() {
        VendorError::Timeout
    } else if error.is_connect() {
        VendorError::Transport("no connection")
    } else if error.is_builder() {
        VendorError::Transport("no valid address or header")
    } else {
        VendorError::Transport("broken off")
    }
}
