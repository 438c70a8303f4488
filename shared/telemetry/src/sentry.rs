//! Errors, told to Sentry before the invocation ends: each log line of level `ERROR`, with the lines before it as breadcrumbs.
//!
//! Nothing is sent that is not in the logs, so what must not be logged is not sent either. Sentry's envelopes:
//! <https://develop.sentry.dev/sdk/data-model/envelopes/>

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use sentry_types::Dsn;
use sentry_types::protocol::v7::{Breadcrumb, Envelope, Event, Exception, Level, User, Values};
use serde_json::{Map, Value};

use crate::lines::{self, Failure};

/// How long an invocation waits for Sentry, the address included: the first connection takes a small function a good part of that, and
/// adapters keep no more for it.
const PATIENCE: Duration = Duration::from_millis(900);
/// After a report that failed nothing is sent for so long, and twice as long after each further one: a dead Sentry must not slow down what
/// else happens. What was not sent is kept.
const PAUSE: Duration = Duration::from_mins(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
const CLIENT: &str = concat!("oslira/", env!("CARGO_PKG_VERSION"));

/// Where the address of the project (its DSN) comes from; `None` turns reports off, an error says that nobody knows at the moment. Asked with
/// the first error only.
pub type DsnSource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<SecretString>, ()>> + Send>> + Send + Sync>;

struct Reporter {
    source: DsnSource,
    http: OnceLock<reqwest::Client>,
    silence: Mutex<Silence>,
}

/// Until when nothing is sent, and how long the pause is.
#[derive(Default)]
struct Silence {
    until: Option<Instant>,
    pause: Duration,
}

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Says where errors go to. Later calls change nothing.
pub fn report_to(source: DsnSource) {
    let _ = REPORTER.set(Reporter::new(source));
}

/// Tells the invocation's errors, if there are any, and forgets its lines. Every adapter calls it when an invocation ends, since the process
/// may be frozen right afterwards.
pub async fn report() {
    let failures = lines::take();
    if let (false, Some(reporter)) = (failures.is_empty(), REPORTER.get()) {
        lines::keep(reporter.report(failures).await);
    }
}

impl Reporter {
    fn new(source: DsnSource) -> Self {
        Self { source, http: OnceLock::new(), silence: Mutex::default() }
    }

    /// Tells them, and answers those that could not be told now.
    async fn report(&self, mut failures: Vec<Failure>) -> Vec<Failure> {
        if self.silence().until.is_some_and(|until| Instant::now() < until) {
            return failures;
        }
        let request_id = failures.first().and_then(|failure| fields(&failure.line).get("requestId").map(text)).unwrap_or_default();
        let sent = tokio::time::timeout(PATIENCE, self.send(&mut failures)).await.unwrap_or(Err("no answer in time"));
        let Err(why) = sent else {
            *self.silence() = Silence::default();
            return failures;
        };
        {
            let mut silence = self.silence();
            silence.pause = (silence.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
            silence.until = Some(Instant::now() + silence.pause);
        }
        tracing::warn!(requestId = request_id, why, "errors not reported");
        failures
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends them one after the other, and removes what was sent or will never be taken.
    async fn send(&self, failures: &mut Vec<Failure>) -> Result<(), &'static str> {
        let address = (self.source)().await.map_err(|()| "no address")?;
        let Some(dsn) = address.filter(|dsn| !dsn.expose_secret().is_empty()) else {
            failures.clear();
            return Ok(());
        };
        let dsn: Dsn = dsn.expose_secret().parse().map_err(|_| "the DSN is none")?;
        let http = self.http.get_or_init(oslira_tls::http_client);
        while let Some(failure) = failures.first() {
            let mut body = Vec::new();
            Envelope::from(event(failure)).to_writer(&mut body).map_err(|_| "no envelope")?;
            let request = http.post(dsn.envelope_api_url()).header("x-sentry-auth", dsn.to_auth(Some(CLIENT)).to_string());
            let answer =
                request.header("content-type", "application/x-sentry-envelope").body(body).send().await.map_err(|_| "unreachable")?;
            // 401, 403: the key. 429: later. Any other 4xx is about this event, and will be next time.
            if answer.status().is_server_error() || [401, 403, 429].contains(&answer.status().as_u16()) {
                return Err("refused");
            }
            failures.remove(0);
        }
        Ok(())
    }
}

/// A log line's fields: those of the line itself over those of its span.
fn fields(line: &str) -> Map<String, Value> {
    let Ok(Value::Object(mut line)) = serde_json::from_str(line) else { return Map::new() };
    let span = line.remove("span");
    let mut fields = span.and_then(|span| span.as_object().cloned()).unwrap_or_default();
    fields.shift_remove("name");
    fields.extend(line);
    fields
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn breadcrumb(line: &str) -> Breadcrumb {
    let mut fields = fields(line);
    let mut take = |name: &str| fields.shift_remove(name).as_ref().map(text);
    let (timestamp, level, message, category) = (take("timestamp"), take("level"), take("message"), take("target"));
    Breadcrumb {
        timestamp: timestamp.and_then(|at| time(&at)).unwrap_or_else(SystemTime::now),
        level: match level.as_deref() {
            Some("ERROR") => Level::Error,
            Some("WARN") => Level::Warning,
            Some("DEBUG" | "TRACE") => Level::Debug,
            _ => Level::Info,
        },
        message,
        category,
        data: fields.into_iter().collect(),
        ..Breadcrumb::default()
    }
}

/// What Sentry searches and groups by; everything else of a line is `extra`.
const TAGS: [&str; 9] = ["endpoint", "schedule", "call", "code", "requestId", "run_id", "account_id", "asked_account_id", "batch_id"];

fn event(failure: &Failure) -> Event<'static> {
    let mut fields = fields(&failure.line);
    let mut take = |name: &str| fields.shift_remove(name).as_ref().map(text);
    let (message, target, timestamp, _) = (take("message"), take("target"), take("timestamp"), take("level"));
    let why = take("cause").or_else(|| take("error"));
    let user = take("user_id");
    let mut tags: Vec<(String, String)> = TAGS.iter().filter_map(|name| Some(((*name).to_owned(), take(name)?))).collect();
    let variable = |name: &str| std::env::var(name).ok();
    tags.extend(variable("AWS_LAMBDA_FUNCTION_NAME").map(|name| ("function".to_owned(), name)));
    let tag = |name: &str| tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let message = message.unwrap_or_default();
    let kind = tag("code").unwrap_or_else(|| message.clone());
    let group = [tag("function"), target.clone(), Some(message.clone()), Some(kind.clone())];
    Event {
        event_id: failure.id,
        level: Level::Error,
        fingerprint: Cow::Owned(group.into_iter().flatten().map(Cow::Owned).collect()),
        timestamp: timestamp.and_then(|at| time(&at)).unwrap_or_else(SystemTime::now),
        environment: variable("ENVIRONMENT").map(Cow::Owned),
        release: Some(Cow::Borrowed(CLIENT)),
        transaction: tag("endpoint").or_else(|| tag("schedule")).or_else(|| tag("function")),
        user: user.or_else(|| tag("account_id")).map(|id| User { id: Some(id), ..User::default() }),
        exception: Values {
            values: vec![Exception { ty: kind, value: Some(why.unwrap_or_else(|| message.clone())), ..Exception::default() }],
        },
        logger: target,
        message: Some(message),
        breadcrumbs: Values { values: failure.before.iter().map(|line| breadcrumb(line)).collect() },
        tags: tags.into_iter().collect(),
        extra: fields.into_iter().collect(),
        ..Event::default()
    }
}

/// A time as our log lines tell it.
fn time(text: &str) -> Option<SystemTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(SystemTime::from(at))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-23T08:00:00Z","level":"ERROR","message":"failed","status":503,"code":"SERVICE_UNAVAILABLE",
        "cause":"postgresql: gone","target":"oslira_http::adapter","span":{"requestId":"r1","endpoint":"GET /api/leads","user_id":"u1","account_id":"a1","name":"request"}}"#;

    fn failure() -> Failure {
        let before =
            r#"{"timestamp":"2026-11-23T07:59:59Z","level":"WARN","message":"rate limit not counted","target":"t","scope":"general"}"#;
        Failure { id: uuid::Uuid::nil(), line: LINE.to_owned(), before: vec![before.to_owned()] }
    }

    #[test]
    fn a_line_becomes_an_event_that_can_be_found_and_grouped() {
        let event = serde_json::to_value(event(&failure())).unwrap();
        assert_eq!(event["exception"]["values"][0]["type"], "SERVICE_UNAVAILABLE");
        assert_eq!(event["exception"]["values"][0]["value"], "postgresql: gone");
        assert_eq!((&event["user"]["id"], &event["transaction"]), (&Value::from("u1"), &Value::from("GET /api/leads")));
        assert_eq!(
            event["tags"],
            serde_json::json!({ "endpoint": "GET /api/leads", "code": "SERVICE_UNAVAILABLE", "requestId": "r1", "account_id": "a1" })
        );
        assert_eq!(event["extra"], serde_json::json!({ "status": 503 }));
        let crumb = &event["breadcrumbs"]["values"][0];
        assert_eq!(
            (&crumb["message"], &crumb["level"], &crumb["data"]["scope"]),
            (&"rate limit not counted".into(), &"warning".into(), &"general".into())
        );
        assert_eq!(event["timestamp"], 1_795_420_800.0);
    }

    /// A project at `address`, asked by a reporter of its own.
    fn reporter(address: &str) -> Reporter {
        let dsn = format!("http://public@{address}/7");
        Reporter::new(Arc::new(move || {
            let dsn = SecretString::from(dsn.clone());
            Box::pin(async move { Ok(Some(dsn)) })
        }))
    }

    /// A project that reads one envelope and answers with `status`. What it was sent.
    async fn answers(listener: &TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("postgresql: gone") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn an_envelope_arrives_with_its_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reporter = reporter(&listener.local_addr().unwrap().to_string());
        let (request, unsent) = tokio::join!(answers(&listener, "200 OK"), reporter.report(vec![failure()]));
        assert_eq!(unsent, []);
        assert!(request.starts_with("POST /api/7/envelope/ HTTP/1.1"), "{request}");
        assert!(request.contains("x-sentry-auth: Sentry sentry_key=public, sentry_version=7, sentry_timestamp="), "{request}");
        assert!(reporter.silence().until.is_none());
    }

    #[tokio::test]
    async fn a_dead_project_is_waited_for_once() {
        // Takes connections and says nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reporter = reporter(&listener.local_addr().unwrap().to_string());
        let unsent = reporter.report(vec![failure()]).await;
        assert_eq!(unsent, [failure()], "it is kept for when the project answers again");
        let accepted = async { tokio::time::timeout(Duration::from_millis(100), listener.accept()).await };
        assert!(accepted.await.is_ok());
        for _ in 0..100 {
            assert_eq!(reporter.report(vec![failure()]).await.len(), 1);
        }
        assert!(accepted_again(&listener).await.is_err(), "no second connection");
    }

    async fn accepted_again(listener: &TcpListener) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.map(drop)
    }

    #[tokio::test]
    async fn without_an_address_nothing_is_sent() {
        let off = Reporter::new(Arc::new(|| Box::pin(async { Ok(None) })));
        assert_eq!(off.report(vec![failure()]).await, []);
        assert!(off.silence().until.is_none() && off.http.get().is_none());
        // Nobody knows the address at the moment: asked again later, and less and less often.
        let unknown = Reporter::new(Arc::new(|| Box::pin(async { Err(()) })));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(unknown.report(vec![failure()]).await, [failure()]);
            let until = unknown.silence().until.take().expect("a pause");
            assert!(until > Instant::now() + Duration::from_secs(minutes * 60 - 10), "{minutes}");
            assert!(until <= Instant::now() + Duration::from_mins(minutes), "{minutes}");
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_taken_holds_up_no_other() {
        for (status, kept) in [("400 X", 0), ("413 X", 0), ("429 X", 1), ("403 X", 1), ("500 X", 1)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let reporter = reporter(&listener.local_addr().unwrap().to_string());
            let (_, unsent) = tokio::join!(answers(&listener, status), reporter.report(vec![failure()]));
            assert_eq!(unsent.len(), kept, "{status}");
        }
    }
}
