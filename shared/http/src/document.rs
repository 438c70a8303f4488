//! A file that is part of its function, served as it is.

use std::future::ready;
use std::sync::LazyLock;

use http::{HeaderValue, Response, StatusCode, header};
use lambda_http::Body;
use sha2::{Digest, Sha256};

use crate::adapter::serve_raw;

/// How long clients and proxies may keep it without revalidation.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Serves a JSON text without authentication and outside the envelope. Responds with 304 to a client that has it already.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn document(text: &'static str) -> Result<(), lambda_http::Error> {
    // Computed with the first request: it takes a third of a millisecond, of a start that takes two.
    let tag = LazyLock::new(move || tag(text));
    serve_raw(move |request, request_id| ready(Ok(respond(&request, &request_id, text, &tag)))).await
}

/// Returns the entity tag of the text: another text has another one.
fn tag(text: &str) -> String {
    format!("\"{}\"", &hex::encode(Sha256::digest(text))[..32])
}

fn respond(request: &lambda_http::Request, request_id: &str, text: &'static str, tag: &str) -> Response<Body> {
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    let mut response = Response::new(if is_known { Body::Empty } else { Body::from(text) });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    for (name, value) in [("etag", tag), ("x-request-id", request_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn responded(known: Option<&str>) -> Response<Body> {
        let mut request = lambda_http::Request::new(Body::Empty);
        if let Some(known) = known {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
        }
        respond(&request, "r1", "{}", &tag("{}"))
    }

    #[test]
    fn a_client_that_has_it_receives_304_and_others_the_text() {
        let first = responded(None);
        let tag = first.headers()["etag"].to_str().unwrap();
        assert_eq!((first.status(), first.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/json"));
        assert!(matches!(first.body(), Body::Text(text) if text == "{}"));
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = responded(Some(&known));
            assert_eq!((again.status(), again.headers()["etag"].to_str().unwrap()), (StatusCode::NOT_MODIFIED, tag), "{known}");
            assert!(matches!(again.body(), Body::Empty));
        }
        assert_eq!(responded(Some("\"other\"")).status(), StatusCode::OK);
        assert_eq!(tag.len(), 34);
    }
}
