//! Webhooks: requests of machines that authenticate themselves with a signature over the body.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use lambda_http::Body;

use crate::adapter::serve;
use crate::errors;
use crate::problem::Problem;
use crate::reply::Reply;

/// A request of a machine, as it arrived and unverified.
#[derive(Debug)]
pub struct Delivery {
    /// Its id, also in the response and in every log line.
    pub request_id: String,
    /// When it arrived.
    pub received_at: Timestamp,
    inner: lambda_http::Request,
}

impl Delivery {
    /// Returns a header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// Returns the body, byte by byte as it was sent, whether API Gateway passed it on as text or in base64.
    ///
    /// # Errors
    /// `PAYLOAD_TOO_LARGE` 413 if it has more than `max_bytes`.
    pub fn body(&self, max_bytes: usize) -> Result<&[u8], Problem> {
        let bytes: &[u8] = match self.inner.body() {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > max_bytes {
            return Err(Problem::of(&errors::PAYLOAD_TOO_LARGE).message(format!("The body is larger than {} KB.", max_bytes / 1024)));
        }
        Ok(bytes)
    }
}

impl From<lambda_http::Request> for Delivery {
    /// Returns a delivery that has just arrived, with an id of its own.
    fn from(inner: lambda_http::Request) -> Self {
        Self { request_id: crate::adapter::request_id(&inner), received_at: Timestamp::now(), inner }
    }
}

/// Runs a webhook until the environment ends: an endpoint that machines call, without a token and without limits. Its handler verifies the
/// signature.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run_webhook<F, Fut>(handler: F) -> Result<(), lambda_http::Error>
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    serve(move |request, request_id| {
        let handler = handler.clone();
        async move { handler(Delivery { request_id, ..request.into() }).await }
    })
    .await
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;

    /// Returns a request as API Gateway passes it to a function.
    fn delivery(body: &str, is_base64: bool) -> Delivery {
        let event = json!({
            "version": "2.0", "routeKey": "POST /hook", "rawPath": "/hook", "rawQueryString": "",
            "headers": { "content-type": "application/json", "x-signature": "abc" },
            "requestContext": {
                "accountId": "1", "apiId": "a", "domainName": "x", "domainPrefix": "x", "requestId": "JKJaXmPLvHcESHA=", "routeKey": "POST /hook",
                "stage": "$default", "time": "22/Nov/2026:12:00:00 +0000", "timeEpoch": 1_795_348_800_000_u64,
                "http": { "method": "POST", "path": "/hook", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "x" }
            },
            "body": body, "isBase64Encoded": is_base64
        });
        lambda_http::request::from_str(&event.to_string()).unwrap().into()
    }

    #[test]
    fn the_body_is_what_was_sent_in_either_encoding() {
        assert_eq!(delivery("{\"a\": \"é\"}\n", false).body(99).unwrap(), "{\"a\": \"é\"}\n".as_bytes());
        assert_eq!(delivery("eyJhIjogIsOpIn0K", true).body(99).unwrap(), "{\"a\": \"é\"}\n".as_bytes());
        assert_eq!(delivery("/w==", true).body(99).unwrap(), [0xff]);
        let delivery = delivery("", false);
        assert_eq!(delivery.body(0).unwrap(), b"");
        assert_eq!((delivery.header("X-Signature"), delivery.header("x-other")), (Some("abc"), None));
        assert_eq!(delivery.request_id, "JKJaXmPLvHcESHA=");
    }

    #[test]
    fn a_body_has_a_maximum_size() {
        assert!(delivery(&"x".repeat(1024), false).body(1024).is_ok());
        let problem = delivery(&"x".repeat(1025), false).body(1024).unwrap_err();
        assert_eq!(
            (problem.status, problem.code, problem.message.as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is larger than 1 KB.")
        );
    }
}
