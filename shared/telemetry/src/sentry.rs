//! Error reports to Sentry, sent before an invocation ends: each log line of level `ERROR`, with the lines before it as breadcrumbs.
//!
//! A report holds nothing that is not in the logs, so what must not be logged is not sent either. Sentry's envelopes:
//! <https://develop.sentry.dev/sdk/data-model/envelopes/>

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use sentry_types::Dsn;
use sentry_types::protocol::v7::{Breadcrumb, Envelope, Event, Exception, Frame, Level, Stacktrace, User, Values};
use serde_json::{Map, Value};

use crate::lines::{self, LoggedError, Place};
use crate::settings;

/// How long an invocation waits for Sentry, fetching the DSN included. The first connection takes a small function a good part of that,
/// and triggers reserve no more.
const TIMEOUT: Duration = Duration::from_millis(900);
/// How long nothing is sent after a report that failed; twice as long after each further one. An unavailable Sentry must not slow down
/// invocations. What was not sent is kept.
const FIRST_BACKOFF: Duration = Duration::from_mins(1);
/// The longest backoff.
const MAX_BACKOFF: Duration = Duration::from_hours(1);
const CLIENT: &str = concat!("oslira/", env!("CARGO_PKG_VERSION"));

/// Returns the address of the Sentry project (its DSN). `None` turns reports off; an error means that it cannot be fetched now. Called with
/// the first error only.
pub type DsnSource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<SecretString>, ()>> + Send>> + Send + Sync>;

struct Reporter {
    source: DsnSource,
    http: OnceLock<reqwest::Client>,
    backoff: Mutex<Backoff>,
}

/// Until when nothing is sent, and how long the backoff is.
#[derive(Default)]
struct Backoff {
    until: Option<SystemTime>,
    length: Duration,
}

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Registers the Sentry project that errors are sent to. Later calls change nothing.
pub fn send_errors_to(source: DsnSource) {
    let _ = REPORTER.set(Reporter::new(source));
}

/// Sends the errors of the invocation, if there are any, and forgets its lines. The invocation layer calls it at the end of every
/// invocation, because the process may be frozen right afterwards.
pub async fn send_errors() {
    let errors = lines::take();
    if let (false, Some(reporter)) = (errors.is_empty(), REPORTER.get()) {
        lines::restore(reporter.report(errors).await);
    }
}

impl Reporter {
    fn new(source: DsnSource) -> Self {
        Self { source, http: OnceLock::new(), backoff: Mutex::default() }
    }

    /// Sends `errors` and returns those that could not be sent now.
    async fn report(&self, mut errors: Vec<LoggedError>) -> Vec<LoggedError> {
        if self.backoff().until.is_some_and(|until| SystemTime::now() < until) {
            return errors;
        }
        let request_id = errors.first().and_then(|error| fields(&error.line).get("requestId").map(text)).unwrap_or_default();
        let sent = tokio::time::timeout(TIMEOUT, self.send(&mut errors)).await.unwrap_or(Err("timeout"));
        let Err(error) = sent else {
            *self.backoff() = Backoff::default();
            return errors;
        };
        {
            let mut backoff = self.backoff();
            backoff.length = (backoff.length * 2).clamp(FIRST_BACKOFF, MAX_BACKOFF);
            backoff.until = Some(SystemTime::now() + backoff.length);
        }
        tracing::warn!(requestId = request_id, error, "errors not sent to Sentry");
        errors
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `errors` one after the other, and removes those that were sent or that Sentry will never accept.
    async fn send(&self, errors: &mut Vec<LoggedError>) -> Result<(), &'static str> {
        let dsn = (self.source)().await.map_err(|()| "the DSN cannot be fetched")?;
        let Some(dsn) = dsn.filter(|dsn| !dsn.expose_secret().is_empty()) else {
            errors.clear();
            return Ok(());
        };
        let dsn: Dsn = dsn.expose_secret().parse().map_err(|_| "the DSN is malformed")?;
        let http = self.http.get_or_init(oslira_tls::http_client);
        while let Some(error) = errors.first() {
            let mut body = Vec::new();
            Envelope::from(event(error)).to_writer(&mut body).map_err(|_| "the envelope cannot be written")?;
            let request = http.post(dsn.envelope_api_url()).header("x-sentry-auth", dsn.to_auth(Some(CLIENT)).to_string());
            let response =
                request.header("content-type", "application/x-sentry-envelope").body(body).send().await.map_err(|_| "unreachable")?;
            // 401 and 403 are about the key, 429 passes. Any other 4xx is about this event, and would be returned again.
            if response.status().is_server_error() || [401, 403, 429].contains(&response.status().as_u16()) {
                return Err("refused");
            }
            errors.remove(0);
        }
        Ok(())
    }
}

/// Returns the fields of a log line. Those of the line itself take precedence over those of its span.
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

/// The fields that Sentry searches and groups by. The other fields of a line are `extra`.
const TAGS: [&str; 10] =
    ["endpoint", "schedule", "tier", "call", "code", "requestId", "run_id", "account_id", "requested_account_id", "batch_id"];

fn event(logged: &LoggedError) -> Event<'static> {
    let mut fields = fields(&logged.line);
    let mut take = |name: &str| fields.shift_remove(name).as_ref().map(text);
    let (message, target, timestamp, _) = (take("message"), take("target"), take("timestamp"), take("level"));
    let error = take("error");
    let stacktrace = stacktrace(&logged.places, take("at").or_else(|| take("location")));
    let user = take("user_id");
    let mut tags: Vec<(String, String)> = TAGS.iter().filter_map(|name| Some(((*name).to_owned(), take(name)?))).collect();
    tags.extend(settings().and_then(|settings| settings.function.clone()).map(|name| ("function".to_owned(), name)));
    let tag = |name: &str| tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let message = message.unwrap_or_default();
    let kind = tag("code").unwrap_or_else(|| message.clone());
    let group = [tag("function"), target.clone(), Some(message.clone()), Some(kind.clone())];
    Event {
        event_id: logged.id,
        level: Level::Error,
        fingerprint: Cow::Owned(group.into_iter().flatten().map(Cow::Owned).collect()),
        timestamp: timestamp.and_then(|at| time(&at)).unwrap_or_else(SystemTime::now),
        environment: settings().map(|settings| Cow::Borrowed(settings.environment.as_str())),
        release: Some(Cow::Borrowed(CLIENT)),
        transaction: tag("endpoint").or_else(|| tag("schedule")).or_else(|| tag("function")),
        user: user.or_else(|| tag("account_id")).map(|id| User { id: Some(id), ..User::default() }),
        exception: Values {
            values: vec![Exception { ty: kind, value: Some(error.unwrap_or_else(|| message.clone())), stacktrace, ..Exception::default() }],
        },
        logger: target,
        message: Some(message),
        breadcrumbs: Values { values: logged.before.iter().map(|line| breadcrumb(line)).collect() },
        tags: tags.into_iter().collect(),
        extra: fields.into_iter().collect(),
        ..Event::default()
    }
}

/// Returns the places of an error as a stack, the outermost first: the unit of work, the statement that logged it, and `at` (`file:line`), where
/// the error was made or the panic happened. The functions' binaries have no symbols, so that a backtrace of theirs would be addresses.
fn stacktrace(places: &[Place], at: Option<String>) -> Option<Stacktrace> {
    let mut frames: Vec<Frame> = places
        .iter()
        .map(|place| Frame {
            function: place.span.map(ToOwned::to_owned),
            module: place.module.clone(),
            filename: place.file.clone(),
            lineno: place.line.map(u64::from),
            in_app: Some(true),
            ..Frame::default()
        })
        .collect();
    frames.extend(at.map(|at| {
        let mut parts = at.split(':');
        let filename = parts.next().map(ToOwned::to_owned);
        let mut number = || parts.next()?.parse().ok();
        Frame { filename, lineno: number(), colno: number(), in_app: Some(true), ..Frame::default() }
    }));
    (!frames.is_empty()).then(|| Stacktrace { frames, ..Stacktrace::default() })
}

/// Parses a timestamp of our log lines.
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
        "error":"postgresql: gone","at":"functions/leads/src/get_lead.rs:30","target":"oslira_lambda::invocation","span":{"requestId":"r1","endpoint":"GET /api/leads","user_id":"u1","account_id":"a1","tier":"deep","name":"request"}}"#;

    fn logged_error() -> LoggedError {
        let before =
            r#"{"timestamp":"2026-11-23T07:59:59Z","level":"WARN","message":"rate limit not counted","target":"t","scope":"general"}"#;
        let place = |span, line| Place { span, module: Some("oslira_lambda".to_owned()), file: Some("a.rs".to_owned()), line: Some(line) };
        let places = vec![place(Some("request"), 3), place(None, 7)];
        LoggedError { id: uuid::Uuid::nil(), line: LINE.to_owned(), before: vec![before.to_owned()], places }
    }

    #[test]
    fn a_line_becomes_an_event_with_tags_and_a_group() {
        let event = serde_json::to_value(event(&logged_error())).unwrap();
        assert_eq!(event["exception"]["values"][0]["type"], "SERVICE_UNAVAILABLE");
        assert_eq!(event["exception"]["values"][0]["value"], "postgresql: gone");
        assert_eq!((&event["user"]["id"], &event["transaction"]), (&Value::from("u1"), &Value::from("GET /api/leads")));
        assert_eq!(
            event["tags"],
            serde_json::json!({ "endpoint": "GET /api/leads", "code": "SERVICE_UNAVAILABLE", "requestId": "r1", "account_id": "a1", "tier": "deep" })
        );
        assert_eq!(event["extra"], serde_json::json!({ "status": 503 }));
        let frames = event["exception"]["values"][0]["stacktrace"]["frames"].as_array().unwrap();
        let frame = |frame: &Value| (frame["function"].clone(), frame["filename"].clone(), frame["lineno"].clone());
        assert_eq!(
            frames.iter().map(frame).collect::<Vec<_>>(),
            [
                ("request".into(), "a.rs".into(), 3.into()),
                (Value::Null, "a.rs".into(), 7.into()),
                (Value::Null, "functions/leads/src/get_lead.rs".into(), 30.into())
            ]
        );
        let crumb = &event["breadcrumbs"]["values"][0];
        assert_eq!(
            (&crumb["message"], &crumb["level"], &crumb["data"]["scope"]),
            (&"rate limit not counted".into(), &"warning".into(), &"general".into())
        );
        assert_eq!(event["timestamp"], 1_795_420_800.0);
    }

    /// Returns a reporter to a project at `address`.
    fn reporter(address: &str) -> Reporter {
        let dsn = format!("http://public@{address}/7");
        Reporter::new(Arc::new(move || {
            let dsn = SecretString::from(dsn.clone());
            Box::pin(async move { Ok(Some(dsn)) })
        }))
    }

    /// Reads one envelope as a project does, responds with `status`, and returns what it received.
    async fn respond(listener: &TcpListener, status: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("postgresql: gone") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    }

    #[tokio::test]
    async fn an_envelope_is_sent_with_its_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reporter = reporter(&listener.local_addr().unwrap().to_string());
        let (request, unsent) = tokio::join!(respond(&listener, "200 OK"), reporter.report(vec![logged_error()]));
        assert_eq!(unsent, []);
        assert!(request.starts_with("POST /api/7/envelope/ HTTP/1.1"), "{request}");
        assert!(request.contains("x-sentry-auth: Sentry sentry_key=public, sentry_version=7, sentry_timestamp="), "{request}");
        assert!(reporter.backoff().until.is_none());
    }

    #[tokio::test]
    async fn an_unresponsive_project_is_waited_for_once() {
        // Accepts connections and never responds.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reporter = reporter(&listener.local_addr().unwrap().to_string());
        let unsent = reporter.report(vec![logged_error()]).await;
        assert_eq!(unsent, [logged_error()], "it is kept until the project responds again");
        let accepted = async { tokio::time::timeout(Duration::from_millis(100), listener.accept()).await };
        assert!(accepted.await.is_ok());
        for _ in 0..100 {
            assert_eq!(reporter.report(vec![logged_error()]).await.len(), 1);
        }
        assert!(accepted_again(&listener).await.is_err(), "no second connection");
    }

    async fn accepted_again(listener: &TcpListener) -> Result<(), tokio::time::error::Elapsed> {
        tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.map(drop)
    }

    #[tokio::test]
    async fn nothing_is_sent_without_a_dsn() {
        let off = Reporter::new(Arc::new(|| Box::pin(async { Ok(None) })));
        assert_eq!(off.report(vec![logged_error()]).await, []);
        assert!(off.backoff().until.is_none() && off.http.get().is_none());
        // The DSN cannot be fetched now: it is fetched again later, and less and less often.
        let unknown = Reporter::new(Arc::new(|| Box::pin(async { Err(()) })));
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(unknown.report(vec![logged_error()]).await, [logged_error()]);
            let until = unknown.backoff().until.take().expect("a backoff");
            assert!(until > SystemTime::now() + Duration::from_secs(minutes * 60 - 10), "{minutes}");
            assert!(until <= SystemTime::now() + Duration::from_mins(minutes), "{minutes}");
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_accepted_does_not_block_others() {
        for (status, kept) in [("400 X", 0), ("413 X", 0), ("429 X", 1), ("403 X", 1), ("500 X", 1)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let reporter = reporter(&listener.local_addr().unwrap().to_string());
            let (_, unsent) = tokio::join!(respond(&listener, status), reporter.report(vec![logged_error()]));
            assert_eq!(unsent.len(), kept, "{status}");
        }
    }
}
