//! The server: one port for all stand-ins.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
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
        .nest(CONTROL, control::routes(Arc::clone(app)).nest("/stripe", stripe::controls(Arc::clone(&app.stripe))))
        .layer(DefaultBodyLimit::max(wire::BODY_LIMIT))
        .layer(middleware::from_fn(guard))
}

/// The control API, which tools of this machine call, but no web page.
const CONTROL: &str = "/_control";

/// Refuses requests that name another host, and web pages that call the control API.
async fn guard(request: Request, next: Next) -> Response {
    match refusal(request.uri().path(), request.headers()) {
        Some(why) => wire::json(403, &json!({"error": why})),
        None => next.run(request).await,
    }
}

/// Returns why a request is refused, if it is.
///
/// A page whose own name was bound to 127.0.0.1 after it was loaded is of the same origin for its browser, but sends its name as `Host`.
/// `Origin` comes with every POST of a page, also with one that needs no preflight, and `Sec-Fetch-Site` with a GET as well.
fn refusal(path: &str, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()?.parse::<Uri>().ok());
    let host = host.as_ref().and_then(Uri::host).filter(|_| hosts.next().is_none());
    if !host.is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]")) {
        return Some("this host is not the local stack's");
    }
    let page = headers.contains_key(header::ORIGIN) || headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    let control = path.strip_prefix(CONTROL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (control && page).then_some("web pages may not call the control API")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::refusal;

    fn refused(path: &str, sent: &[(&'static str, &'static str)]) -> bool {
        let headers: HeaderMap =
            sent.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        refusal(path, &headers).is_some()
    }

    #[test]
    fn a_page_that_rebinds_its_name_is_refused_everywhere() {
        for path in ["/health", "/stripe/v1/customers", "/_control/token"] {
            for host in ["evil.example", "evil.example:4567", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b"] {
                assert!(refused(path, &[("host", host)]), "{path} {host}");
            }
            assert!(refused(path, &[]), "{path}");
            assert!(!refused(path, &[("host", "127.0.0.1:4567")]), "{path}");
            assert!(!refused(path, &[("host", "localhost:4567")]), "{path}");
        }
    }

    #[test]
    fn pages_call_the_stand_ins_but_not_the_controls() {
        let host = ("host", "127.0.0.1:4567");
        for mark in
            [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
        {
            assert!(refused("/_control/token", &[host, mark]), "{mark:?}");
            assert!(refused("/_control", &[host, mark]), "{mark:?}");
            assert!(!refused("/supabase/auth/v1/token", &[host, mark]), "{mark:?}");
        }
        assert!(!refused("/_control/token", &[host, ("sec-fetch-site", "none")]));
    }
}
