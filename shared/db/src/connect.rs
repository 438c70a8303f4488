//! Opening and closing connections: TLS by default, with a credential that may be rotated.

use std::future::Future;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oslira_credential::Credential;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::DbError;

/// The secret of a database login.
#[derive(Debug, Clone, Deserialize)]
pub struct DatabaseLogin {
    /// `postgres://login:password@host:port/database`. Without `sslmode` TLS is required; the certificate is always verified.
    pub url: SecretString,
    /// The root certificate (PEM) of a server whose certificate no public authority signed, such as Supabase's.
    #[serde(default)]
    pub ca: Option<String>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing a connection may take. The server notices a client that vanishes too, only later.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An open connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends the connection, and returns when the server has been notified: a function is frozen as soon as it has responded, with whatever it
    /// has not sent yet.
    pub(crate) async fn close(self) {
        drop(self.client);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.driver).await;
    }
}

/// The pauses before further attempts with a login that was refused and is still the one in its secret. A rotated password is in the secret a
/// moment before the database, or a pooler in front of it, accepts it. There are few attempts because Supabase's pooler blocks an address that
/// is refused often. Together the pauses are longer than a renewed credential is kept.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];

/// Opens a connection. A refused login is fetched again. A different one is tried at once, the same one only after a pause, because a
/// rotation may be in progress.
pub(crate) async fn connect(credential: &Credential<DatabaseLogin>) -> Result<Connection, DbError> {
    connect_within(credential, PAUSES).await
}

async fn connect_within(credential: &Credential<DatabaseLogin>, pauses: [Duration; 3]) -> Result<Connection, DbError> {
    let mut login = credential.current().await?;
    let mut pauses = pauses.into_iter();
    loop {
        match open(&login).await {
            Err(DbError::Unauthorized) => {}
            outcome => return outcome,
        }
        let refused = login;
        login = credential.renewed().await?;
        if login.url.expose_secret() == refused.url.expose_secret() {
            let Some(pause) = pauses.next() else { return Err(DbError::Unauthorized) };
            tokio::time::sleep(pause).await;
            login = credential.renewed().await?;
        }
    }
}

/// Opens a connection with this login and no other.
pub(crate) async fn open(login: &DatabaseLogin) -> Result<Connection, DbError> {
    let url = login.url.expose_secret();
    let mut config = Config::from_str(url).map_err(|_| DbError::Unexpected("the database secret holds no valid URL".to_owned()))?;
    if !url.contains("sslmode=") {
        config.ssl_mode(SslMode::Require);
    }
    // A frozen Lambda may wake up with a dead connection. These settings detect that within seconds; TCP's defaults take 15 minutes.
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(30))
        .application_name("oslira");
    let connecting = async {
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            return Ok(Connection { client, driver: tokio::spawn(drive(connection)) });
        }
        let (client, connection) = config.connect(tls(login.ca.as_deref())?).await?;
        Ok(Connection { client, driver: tokio::spawn(drive(connection)) })
    };
    tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting).await.map_err(|_| DbError::Unavailable("connecting timed out".to_owned()))?
}

/// Returns the password of `login`, which must be the login of the role `role`. Poolers take logins with the project's id after a dot.
pub(crate) fn password_of(login: &DatabaseLogin, role: &str) -> Result<SecretString, DbError> {
    let wrong = |what: String| DbError::Unexpected(format!("the secret of the login {role} {what}"));
    let config = Config::from_str(login.url.expose_secret()).map_err(|_| wrong("holds no valid URL".to_owned()))?;
    let name = config.get_user().and_then(|user| user.split('.').next()).unwrap_or_default();
    if name != role {
        return Err(wrong(format!("belongs to the login {name}")));
    }
    let password = config.get_password().and_then(|password| std::str::from_utf8(password).ok()).filter(|password| !password.is_empty());
    password.map(SecretString::from).ok_or_else(|| wrong("holds no password".to_owned()))
}

/// Runs the connection until it ends.
async fn drive<C: Future<Output = Result<(), tokio_postgres::Error>>>(connection: C) {
    if let Err(error) = connection.await {
        tracing::info!(%error, "database connection ended");
    }
}

/// Returns the TLS client for a CA. It is kept, so that a connection that is opened again resumes the session instead of verifying certificates.
fn tls(ca: Option<&str>) -> Result<MakeRustlsConnect, DbError> {
    static KEPT: Mutex<Option<(Option<String>, MakeRustlsConnect)>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, connector)) = kept.as_ref().filter(|(of, _)| of.as_deref() == ca) {
        return Ok(connector.clone());
    }
    let connector = new_tls(ca)?;
    *kept = Some((ca.map(ToOwned::to_owned), connector.clone()));
    Ok(connector)
}

fn new_tls(ca: Option<&str>) -> Result<MakeRustlsConnect, DbError> {
    let invalid = |what: &str| DbError::Unexpected(format!("the database secret's CA {what}"));
    let roots = match ca {
        Some(pem) => {
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| invalid("is no PEM certificate"))?;
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate).map_err(|_| invalid("cannot be used as a root"))?;
            roots
        }
        None => oslira_tls::public_roots(),
    };
    Ok(MakeRustlsConnect::new(oslira_tls::client_config(roots)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Starts a server that refuses every password. Returns its port and the users that tried.
    async fn refusing() -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tried = Arc::new(Mutex::new(Vec::new()));
        let seen = tried.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let length = stream.read_u32().await.unwrap();
                let mut startup = vec![0; length as usize - 4];
                stream.read_exact(&mut startup).await.unwrap();
                let parts: Vec<&[u8]> = startup[4..].split(|byte| *byte == 0).collect();
                let user = parts.iter().position(|part| *part == b"user").unwrap();
                seen.lock().unwrap().push(String::from_utf8(parts[user + 1].to_vec()).unwrap());
                let fields = b"SFATAL\0C28P01\0Mno\0\0";
                stream.write_all(b"E").await.unwrap();
                stream.write_u32(u32::try_from(fields.len()).unwrap() + 4).await.unwrap();
                stream.write_all(fields).await.unwrap();
            }
        });
        (port, tried)
    }

    /// Returns the users that tried to connect while the secret held first `cached` and then `renewed`.
    async fn attempts(cached: &'static str, renewed: &'static str) -> Vec<String> {
        let (port, tried) = refusing().await;
        let fetched = AtomicBool::new(false);
        let credential = Credential::new(move || {
            let user = if fetched.swap(true, Ordering::Relaxed) { renewed } else { cached };
            let url = format!("postgres://{user}:secret@127.0.0.1:{port}/postgres?sslmode=disable").into();
            std::future::ready(Ok(DatabaseLogin { url, ca: None }))
        });
        assert!(matches!(connect_within(&credential, [Duration::ZERO; 3]).await, Err(DbError::Unauthorized)));
        tried.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_refused_login_is_tried_few_times_and_a_rotated_one_at_once() {
        assert_eq!(attempts("same", "same").await, ["same"; 4]);
        assert_eq!(attempts("old", "new").await, ["old", "new", "new", "new", "new"]);
    }
}
