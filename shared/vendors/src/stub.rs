//! A server for tests that gives its answers in the order they were scripted and keeps what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with the next request.
#[derive(Clone)]
pub(crate) enum Script {
    /// A whole answer.
    Answer(u16, &'static str, Vec<u8>),
    /// An answer that announces more bytes than it has.
    BreakOff,
    /// No answer at all: the connection is closed.
    Close,
    /// No answer for a long time.
    Hang,
}

impl Script {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, "", body.to_string().into_bytes())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The first line.
    pub(crate) line: String,
    /// All headers, in lower case.
    pub(crate) headers: String,
    /// The body; null if it is no JSON.
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Asked {
    /// What the header says; empty without one.
    pub(crate) fn idempotency_key(&self) -> String {
        let key = self.headers.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
        key.unwrap_or_default().trim().to_owned()
    }
}

pub(crate) struct Stub {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// A server that answers one request after another and then closes connections.
    pub(crate) async fn new(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                log.lock().unwrap().push(request);
                answer(stream, scripts.next().unwrap_or(Script::Close)).await;
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Asked {
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
            return Asked { line: line.to_owned(), headers, body: serde_json::from_str(body).unwrap_or_default(), text: body.to_owned() };
        }
    }
}

async fn answer(mut stream: TcpStream, script: Script) {
    match script {
        Script::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
        Script::BreakOff => stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n{\"id\":").await.unwrap(),
        Script::Close => {}
        // In a task of its own, so that the next request is served meanwhile.
        Script::Hang => drop(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            drop(stream);
        })),
    }
}
