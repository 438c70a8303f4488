//! One port for all stand-ins.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::app::{App, Credentials};
use crate::tokens::KeyRing;
use crate::{anthropic, apify, control, openai, sentry, stripe, supabase, wire};

/// How to run a sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0 for any free one.
    pub port: u16,
    /// The vendors' credentials at the start.
    pub credentials: Credentials,
    /// The legacy shared secret of the Supabase project.
    pub jwt_secret: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, credentials: Credentials::default(), jwt_secret: "sandbox-jwt-secret-at-least-32-characters-long".to_owned() }
    }
}

/// A running sandbox. It ends when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// Such as `http://127.0.0.1:41234`, without a slash at the end.
    pub base_url: String,
    /// The port.
    pub port: u16,
    app: Arc<App>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Sandbox {
    /// The keys that it signs access tokens with.
    pub fn keys(&self) -> &KeyRing {
        &self.app.keys
    }

    /// Waits until the server ends, which it only does by failing.
    ///
    /// # Errors
    /// What it failed with.
    pub async fn finished(mut self) -> anyhow::Result<()> {
        (&mut self.server).await.context("the server's task broke")?.context("the server failed")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Starts a sandbox on 127.0.0.1.
///
/// # Errors
/// When the port is taken or no keys can be made.
pub async fn serve(options: Options) -> anyhow::Result<Sandbox> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let port = listener.local_addr().context("the socket has no address")?.port();
    let base_url = format!("http://127.0.0.1:{port}");
    let app = Arc::new(App::new(base_url.clone(), options.credentials, options.jwt_secret)?);
    let routes = routes().with_state(Arc::clone(&app));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(Sandbox { base_url, port, app, server })
}

fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(async || wire::json(200, &json!({"status": "ok"}))))
        .nest("/apify", apify::routes())
        .nest("/openai", openai::routes())
        .nest("/anthropic", anthropic::routes())
        .nest("/supabase", supabase::routes())
        .nest("/stripe", stripe::routes())
        .nest("/sentry", sentry::routes())
        .nest("/_control", control::routes().nest("/stripe", stripe::controls()))
        .layer(DefaultBodyLimit::max(wire::BODY_LIMIT))
}
