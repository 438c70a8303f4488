//! Opens connections: with TLS by default, and with a credential that is fetched again after a rotation.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_postgres::{Client, Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::DbError;

/// The secret of a database login.
#[derive(Debug, Clone, Deserialize)]
pub struct Credential {
    /// `postgres://login:password@host:port/database`. Without `sslmode` TLS is required; the certificate is always verified.
    pub url: SecretString,
    /// The root certificate (PEM) of a server whose certificate no public authority has signed, such as Supabase's.
    #[serde(default)]
    pub ca: Option<String>,
}

/// Returns the credential; `true` fetches it anew because the server rejected the last one.
pub type CredentialSource = Arc<dyn Fn(bool) -> Pin<Box<dyn Future<Output = Result<Credential, DbError>> + Send>> + Send + Sync>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses before each further attempt with a credential that was rejected and is still the one in its secret: during a rotation the
/// secret holds the new password a moment before the database, or a pooler in front of it, accepts it. Few, because Supabase's pooler blocks
/// an address that it rejects often. Their sum is longer than a secret that was fetched because of a rejection stays cached.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];

/// Opens a connection. Fetches a rejected credential anew and tries a different one at once, the same one only after a pause: it may be
/// in rotation.
pub(crate) async fn connect(source: &CredentialSource) -> Result<Client, DbError> {
    connect_within(source, PAUSES).await
}

async fn connect_within(source: &CredentialSource, pauses: [Duration; 3]) -> Result<Client, DbError> {
    let mut credential = source(false).await?;
    let mut pauses = pauses.into_iter();
    loop {
        match open(&credential).await {
            Err(DbError::Unauthorized) => {}
            outcome => return outcome,
        }
        let refused = credential.url.expose_secret().to_owned();
        credential = source(true).await?;
        if credential.url.expose_secret() == refused {
            let Some(pause) = pauses.next() else { return Err(DbError::Unauthorized) };
            tokio::time::sleep(pause).await;
            credential = source(true).await?;
        }
    }
}

/// Opens a connection with this credential only.
pub(crate) async fn open(credential: &Credential) -> Result<Client, DbError> {
    let url = credential.url.expose_secret();
    let mut config = Config::from_str(url).map_err(|_| DbError::Unexpected("the database secret holds no valid URL".to_owned()))?;
    if !url.contains("sslmode=") {
        config.ssl_mode(SslMode::Require);
    }
    // A frozen Lambda may resume with a connection that died in the meantime. These settings detect it within seconds; TCP alone takes a
    // quarter of an hour.
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(30))
        .application_name("oslira");
    let connecting = async {
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            tokio::spawn(drive(connection));
            return Ok(client);
        }
        let (client, connection) = config.connect(tls(credential.ca.as_deref())?).await?;
        tokio::spawn(drive(connection));
        Ok(client)
    };
    tokio::time::timeout(CONNECT_TIMEOUT * 2, connecting).await.map_err(|_| DbError::Unavailable("connecting timed out".to_owned()))?
}

/// Returns the password of a credential for `login`. Poolers accept logins with the project after a dot.
pub(crate) fn password_of(credential: &Credential, login: &str) -> Result<SecretString, DbError> {
    let wrong = |what: String| DbError::Unexpected(format!("the secret of the login {login} {what}"));
    let config = Config::from_str(credential.url.expose_secret()).map_err(|_| wrong("holds no valid URL".to_owned()))?;
    let name = config.get_user().and_then(|user| user.split('.').next()).unwrap_or_default();
    if name != login {
        return Err(wrong(format!("is for the login {name}")));
    }
    let password = config.get_password().and_then(|password| std::str::from_utf8(password).ok()).filter(|password| !password.is_empty());
    password.map(SecretString::from).ok_or_else(|| wrong("holds no password".to_owned()))
}

/// Runs the connection until it ends. The next statement finds it closed and opens another.
async fn drive<C: Future<Output = Result<(), tokio_postgres::Error>>>(connection: C) {
    if let Err(error) = connection.await {
        tracing::info!(%error, "database connection ended");
    }
}

fn tls(ca: Option<&str>) -> Result<MakeRustlsConnect, DbError> {
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
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that rejects every password, and the users that it rejected.
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

    async fn tries(kept: &'static str, now: &'static str) -> Vec<String> {
        let (port, tried) = refusing().await;
        let source: CredentialSource = Arc::new(move |fresh| {
            let user = if fresh { now } else { kept };
            let url = format!("postgres://{user}:secret@127.0.0.1:{port}/postgres?sslmode=disable").into();
            Box::pin(async { Ok(Credential { url, ca: None }) })
        });
        assert!(matches!(connect_within(&source, [Duration::ZERO; 3]).await, Err(DbError::Unauthorized)));
        tried.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_rejected_credential_is_retried_after_pauses_and_a_new_one_at_once() {
        assert_eq!(tries("same", "same").await, ["same"; 4]);
        assert_eq!(tries("old", "new").await, ["old", "new", "new", "new", "new"]);
    }
}
