//! Reading requests and writing responses, as all stand-ins do.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;

/// The largest accepted request body, decompressed: Apify's limit, the largest of the vendors'.
pub(crate) const BODY_LIMIT: usize = 9_437_184;

/// Decompresses a request body if its headers declare a content encoding.
///
/// # Errors
/// The HTTP status for a body that is too large or cannot be decompressed.
pub(crate) fn decompressed(headers: &HeaderMap, body: Bytes) -> Result<Bytes, StatusCode> {
    let limit = BODY_LIMIT as u64 + 1;
    let mut plain = Vec::new();
    let read = match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => return Ok(body),
        Some(b"gzip") => flate2::read::GzDecoder::new(&body[..]).take(limit).read_to_end(&mut plain),
        Some(b"deflate") => flate2::read::ZlibDecoder::new(&body[..]).take(limit).read_to_end(&mut plain),
        Some(_) => return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    };
    match read {
        Ok(_) if plain.len() > BODY_LIMIT => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

/// Returns the token of `Authorization: Bearer …`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns whether the request declares its body as JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")))
}

/// Creates a JSON response.
pub(crate) fn json(status: u16, value: &Value) -> Response {
    raw_json(status, value.to_string().into_bytes())
}

/// Creates a response with the first half of a JSON body, as a broken proxy would send.
pub(crate) fn half_json(status: u16, value: &Value) -> Response {
    let mut bytes = value.to_string().into_bytes();
    bytes.truncate(bytes.len() / 2);
    raw_json(status, bytes)
}

fn raw_json(status: u16, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, "content-type", "application/json; charset=utf-8");
    response
}

/// Sets a header. An invalid value is ignored.
pub(crate) fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Creates a response that never starts: its body fails before the head is flushed, so the server closes the connection.
pub(crate) fn disconnect() -> Response {
    let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
    Response::new(Body::from_stream(broken))
}

/// Waits for this time. A wait of zero does not yield.
pub(crate) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Returns a new opaque id of this many letters and digits, at most 32.
pub(crate) fn id(length: usize) -> String {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(length);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bodies_are_decompressed_and_broken_ones_rejected() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"{\"usernames\":[\"nike\"]}").unwrap();
        let compressed = Bytes::from(encoder.finish().unwrap());
        let headers = |coding: &'static str| HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        assert_eq!(decompressed(&headers("gzip"), compressed.clone()).unwrap(), &b"{\"usernames\":[\"nike\"]}"[..]);
        assert_eq!(decompressed(&headers("gzip"), Bytes::from_static(b"plain")), Err(StatusCode::BAD_REQUEST));
        assert_eq!(decompressed(&headers("br"), compressed.clone()), Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(decompressed(&HeaderMap::new(), compressed.clone()), Ok(compressed));
    }

    #[test]
    fn the_bearer_scheme_is_case_insensitive() {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc"))]);
        assert_eq!(bearer(&headers), Some("abc"));
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
