//! A runtime API for a function's process, and a stand-in for the counters of its rate limits. Both respond at once, so that only the function is
//! measured. Other AWS requests are forwarded to the emulator.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// The time limit for a start or an invocation.
const PATIENCE: Duration = Duration::from_secs(30);

/// An action of the process.
enum Seen {
    Polled(Instant),
    Responded(Instant, Bytes),
}

struct Api {
    events: Mutex<mpsc::Receiver<(Vec<u8>, mpsc::Sender<Instant>)>>,
    seen: mpsc::Sender<Seen>,
    aws: reqwest::Client,
    aws_endpoint: String,
}

/// A function's process, with the runtime API that it polls.
pub(crate) struct Process {
    events: mpsc::Sender<(Vec<u8>, mpsc::Sender<Instant>)>,
    seen: mpsc::Receiver<Seen>,
    /// The time from its start to its first poll.
    pub(crate) init: Duration,
    server: JoinHandle<()>,
    _child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Process {
    /// Starts a function and waits until it polls for its first event.
    pub(crate) async fn start(binary: &Path, environment: &[(String, String)], aws_endpoint: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (events, receiver) = mpsc::channel(1);
        let (sender, mut seen) = mpsc::channel(8);
        let api = Api { events: Mutex::new(receiver), seen: sender, aws: reqwest::Client::new(), aws_endpoint: aws_endpoint.to_owned() };
        let routes = Router::new().fallback(respond).with_state(Arc::new(api));
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        let mut command = Command::new(binary);
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("AWS_LAMBDA_RUNTIME_API", &address).env("AWS_ENDPOINT_URL", format!("http://{address}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        match tokio::time::timeout(PATIENCE, seen.recv()).await {
            Ok(Some(Seen::Polled(at))) => Ok(Self { events, seen, init: at - begun, server, _child: child }),
            _ => bail!("{} has not started in time", binary.display()),
        }
    }

    /// Invokes the function. Returns its time and its response.
    pub(crate) async fn invoke(&mut self, event: &Value) -> Result<(Duration, Value)> {
        let (handed, mut handing) = mpsc::channel(1);
        self.events.send((serde_json::to_vec(event)?, handed)).await?;
        loop {
            match tokio::time::timeout(PATIENCE, self.seen.recv()).await {
                Ok(Some(Seen::Responded(at, body))) => {
                    let begun = handing.recv().await.context("no event was handed over")?;
                    return Ok((at - begun, serde_json::from_slice(&body)?));
                }
                Ok(Some(Seen::Polled(_))) => {}
                _ => bail!("a function has not responded in time"),
            }
        }
    }
}

async fn respond(State(api): State<Arc<Api>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path();
    if method == Method::GET && path.ends_with("/invocation/next") {
        let _ = api.seen.send(Seen::Polled(Instant::now())).await;
        let Some((event, handed)) = api.events.lock().await.recv().await else { return std::future::pending().await };
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + PATIENCE;
        let headers = [
            ("lambda-runtime-aws-request-id", "6bc28136-xmpl-4365-b021-0ce6b2e64ab0".to_owned()),
            ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:000000000000:function:bench".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        let _ = handed.send(Instant::now()).await;
        return (headers, event).into_response();
    }
    if path.ends_with("/response") || path.ends_with("/error") {
        let _ = api.seen.send(Seen::Responded(Instant::now(), body)).await;
        return StatusCode::ACCEPTED.into_response();
    }
    if headers.get("x-amz-target").is_some_and(|target| target.as_bytes().ends_with(b".UpdateItem")) {
        return ([("content-type", "application/x-amz-json-1.0")], r#"{"Attributes":{"used":{"N":"1"}}}"#).into_response();
    }
    match api.forward(method, &uri, headers, body).await {
        Ok(answer) => answer,
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

impl Api {
    async fn forward(&self, method: Method, uri: &Uri, mut headers: HeaderMap, body: Bytes) -> Result<Response> {
        headers.remove("host");
        headers.remove("content-length");
        let answer = self.aws.request(method, format!("{}{uri}", self.aws_endpoint)).headers(headers).body(body).send().await?;
        Ok((answer.status(), answer.bytes().await?).into_response())
    }
}
