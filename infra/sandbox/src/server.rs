//! The server: one port for all stand-ins.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::shared::Credentials;
use crate::tokens::KeyRing;
use crate::{anthropic, apify, control, openai, sentry, stripe, supabase, wire};

/// The options of a sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1, 0 for any free one.
    pub port: u16,
    /// The vendors' first credentials.
    pub credentials: Credentials,
    /// The legacy shared secret of the Supabase project.
    pub jwt_secret: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 0, credentials: Credentials::default(), jwt_secret: "sandbox-jwt-secret-at-least-32-characters-long".to_owned() }
    }
}

/// A running sandbox. Dropping it stops the server.
#[derive(Debug)]
pub struct Sandbox {
    /// The address, such as `http://127.0.0.1:41234`, without a slash at the end.
    pub base_url: String,
    /// The port.
    pub port: u16,
    app: Arc<App>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Sandbox {
    /// Returns the keys that sign access tokens.
    pub fn keys(&self) -> &KeyRing {
        &self.app.supabase.keys
    }

    /// Waits for the server, which ends only when it fails.
    ///
    /// # Errors
    /// The cause of its failure.
    pub async fn finished(mut self) -> anyhow::Result<()> {
        (&mut self.server).await.context("the server's task panicked")?.context("the server failed")
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
/// Fails when the port is in use or no signing keys can be created.
pub async fn serve(options: Options) -> anyhow::Result<Sandbox> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let port = listener.local_addr().context("the socket has no address")?.port();
    let base_url = format!("http://127.0.0.1:{port}");
    let app = Arc::new(App::new(&base_url, options.credentials, options.jwt_secret)?);
    let routes = routes(&app);
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(Sandbox { base_url, port, app, server })
}

fn routes(app: &Arc<App>) -> Router {
    Router::new()
        .route("/health", get(async || wire::json(200, &json!({"status": "ok"}))))
        .nest("/apify", apify::routes(Arc::clone(&app.apify)))
        .nest("/openai", openai::routes(Arc::clone(&app.models)))
        .nest("/anthropic", anthropic::routes(Arc::clone(&app.models)))
        .nest("/supabase", supabase::routes(Arc::clone(&app.supabase)))
        .nest("/stripe", stripe::routes(Arc::clone(&app.stripe)))
        .nest("/sentry", sentry::routes(Arc::clone(&app.shared)))
        .nest("/_control", control::routes(Arc::clone(app)).nest("/stripe", stripe::controls(Arc::clone(&app.stripe))))
        .layer(DefaultBodyLimit::max(wire::BODY_LIMIT))
}
