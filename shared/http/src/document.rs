//! A file that is part of its function, served as it is.

use std::convert::Infallible;
use std::sync::LazyLock;

use http::{HeaderValue, Response, StatusCode, header};
use lambda_http::{Body, service_fn};
use sha2::{Digest, Sha256};

use crate::adapter::request_id;

/// How long a client and what is between may keep it without asking again.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Serves a JSON text to everybody, outside the envelope: 304 to whoever has it already.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn document(text: &'static str) -> Result<(), lambda_http::Error> {
    // Not before somebody asks: it is a third of a millisecond of a start that has two.
    let tag = LazyLock::new(move || tag(text));
    lambda_http::run(service_fn(move |request: lambda_http::Request| {
        let response = answer(&request, text, &tag);
        tracing::info!(requestId = request_id(&request), method = %request.method(), path = request.uri().path(), status = response.status().as_u16(), "answered");
        async move { Ok::<_, Infallible>(response) }
    }))
    .await
}

/// A version of the text: another text has another one.
fn tag(text: &str) -> String {
    format!("\"{}\"", &hex::encode(Sha256::digest(text))[..32])
}

fn answer(request: &lambda_http::Request, text: &'static str, tag: &str) -> Response<Body> {
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    let mut response = Response::new(if is_known { Body::Empty } else { Body::from(text) });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    for (name, value) in [("etag", tag), ("x-request-id", &request_id(request))] {
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

    fn asked(known: Option<&str>) -> Response<Body> {
        let mut request = lambda_http::Request::new(Body::Empty);
        if let Some(known) = known {
            request.headers_mut().insert(header::IF_NONE_MATCH, HeaderValue::from_str(known).unwrap());
        }
        answer(&request, "{}", &tag("{}"))
    }

    #[test]
    fn whoever_has_it_is_told_so_and_others_get_it() {
        let first = asked(None);
        let tag = first.headers()["etag"].to_str().unwrap();
        assert_eq!((first.status(), first.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/json"));
        assert!(matches!(first.body(), Body::Text(text) if text == "{}"));
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = asked(Some(&known));
            assert_eq!((again.status(), again.headers()["etag"].to_str().unwrap()), (StatusCode::NOT_MODIFIED, tag), "{known}");
            assert!(matches!(again.body(), Body::Empty));
        }
        assert_eq!(asked(Some("\"other\"")).status(), StatusCode::OK);
        assert_eq!(tag.len(), 34);
    }
}
