//! A server for tests that returns scripted responses in order and records the requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with the next request.
#[derive(Clone)]
pub(crate) enum Script {
    /// Returns a complete response.
    Respond(u16, &'static str, Vec<u8>),
    /// Returns a response with fewer bytes than its length says.
    BreakOff,
    /// Closes the connection without a response.
    Close,
    /// Does not respond for a long time.
    Hang,
}

impl Script {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Respond(status, "", body.to_string().into_bytes())
    }
}

/// A recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// The first line.
    pub(crate) line: String,
    /// All headers, in lower case.
    pub(crate) headers: String,
    /// The body. Null if it is not JSON.
    pub(crate) body: Value,
    /// The body's text.
    pub(crate) text: String,
}

impl Recorded {
    /// Returns the idempotency key. Empty without one.
    pub(crate) fn idempotency_key(&self) -> String {
        let key = self.headers.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
        key.unwrap_or_default().trim().to_owned()
    }
}

pub(crate) struct Stub {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl Stub {
    /// Starts a server that serves one request after another, and closes further connections.
    pub(crate) async fn new(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                log.lock().unwrap().push(request);
                respond(stream, scripts.next().unwrap_or(Script::Close)).await;
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Recorded {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 8192];
        let count = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let (line, headers) = head.split_once("\r\n").unwrap();
        let headers = headers.to_lowercase();
        let length = headers.lines().find_map(|header| header.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
        if body.len() >= length {
            return Recorded {
                line: line.to_owned(),
                headers,
                body: serde_json::from_str(body).unwrap_or_default(),
                text: body.to_owned(),
            };
        }
    }
}

async fn respond(mut stream: TcpStream, script: Script) {
    match script {
        Script::Respond(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
        Script::BreakOff => stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n{\"id\":").await.unwrap(),
        Script::Close => {}
        // In a separate task, so that the next request is served meanwhile.
        Script::Hang => drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            drop(stream);
        })),
    }
}
