//! The schema's versions, applied in order, each once, and the passwords of the logins that the first one makes.

use std::error::Error;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tokio_postgres::Client;

use crate::connect::{Credential, CredentialSource, connect, open, password_of};
use crate::error::DbError;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Held while migrations are applied.
const TURN: i64 = 7_026_384_201;
/// How long a migration may wait for a table: everybody who comes after it waits as well.
const LOCK_PATIENCE: &str = "5s";
/// Before it tries again.
const PAUSE: Duration = Duration::from_secs(2);
/// How long before each try of a login's new password after the first: a pooler may remember the old one for a moment, and shuts out who is
/// refused often.
const LOGIN_PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What a database's schema is and became.
#[derive(Debug)]
pub struct Schema {
    /// The last migration that is applied, such as `V012__bulk`.
    pub version: String,
    /// The migrations that were applied now.
    pub applied: Vec<String>,
}

/// Applies the migrations that are not applied yet, within `limit`. Concurrent callers take turns. Migrations that this version does not
/// know stay: it may be an older one, to which somebody went back.
///
/// Needs a session of its own: a direct connection, or a pooler in session mode.
///
/// # Errors
/// When the database cannot be reached or a migration fails; a failed one leaves nothing behind.
pub async fn migrate(source: CredentialSource, limit: Duration) -> Result<Schema, DbError> {
    let deadline = Instant::now() + limit;
    let mut client = connect(&source).await?;
    // Not the login's own limits, which are for statements of a moment. The last two end the session of a caller that is no more, and with
    // it the turn that it holds.
    let session = format!(
        "SET statement_timeout = '{limit}ms'; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = '1min'; SET idle_session_timeout = '1min';
         SELECT pg_advisory_lock({TURN}); SET lock_timeout = '{LOCK_PATIENCE}'",
        limit = limit.as_millis()
    );
    client.batch_execute(&session).await?;
    let outcome = loop {
        match apply(&mut client).await {
            Err(DbError::Conflict(message)) if Instant::now() + PAUSE < deadline => {
                tracing::warn!(message, "a migration did not get its tables, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => break outcome,
        }
    };
    // At once, not when the connection ends: a Lambda may be frozen for long before that.
    client.batch_execute(&format!("SELECT pg_advisory_unlock({TURN})")).await?;
    outcome
}

async fn apply(client: &mut Client) -> Result<Schema, DbError> {
    // The history lies in `public`, where Supabase would let every API role write it. No migrations at all make it, so that it is closed
    // before the first one, which may fail.
    refinery::Runner::new(&[]).set_abort_missing(false).run_async(client).await.map_err(|error| told(&error))?;
    client
        .batch_execute(
            "REVOKE ALL ON refinery_schema_history FROM PUBLIC, anon, authenticated, service_role;
             ALTER TABLE refinery_schema_history ENABLE ROW LEVEL SECURITY",
        )
        .await?;
    let runner = embedded::migrations::runner().set_abort_missing(false);
    let report = runner.run_async(client).await.map_err(|error| told(&error))?;
    let last = runner.get_last_applied_migration_async(client).await.map_err(|error| told(&error))?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    Ok(Schema { version: last.map(|migration| migration.to_string()).unwrap_or_default(), applied })
}

/// Which migration failed, and why. A table that was busy is a conflict.
fn told(error: &refinery::Error) -> DbError {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>()) else {
        return DbError::Unexpected(error.to_string());
    };
    let Some(db) = cause.as_db_error() else { return DbError::Unavailable(error.to_string()) };
    let message = format!("{error}: {}", db.message());
    if *db.code() == tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE {
        DbError::Conflict(message)
    } else {
        DbError::Rule { code: db.code().code().to_owned(), message }
    }
}

/// Gives a login the password of its credential, unless it has it already. Answers whether it had to.
///
/// The server is sent a verifier (SCRAM), so that no log of statements holds the password.
///
/// # Errors
/// When the credential names another login or no password, or does not work even then.
pub async fn give_password(owner: &CredentialSource, login: &str, credential: &Credential) -> Result<bool, DbError> {
    let password = password_of(credential, login)?;
    if open(credential).await.is_ok() {
        return Ok(false);
    }
    let verifier = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
    connect(owner).await?.batch_execute(&format!("ALTER ROLE {login} PASSWORD '{verifier}'")).await?;
    let mut pauses = LOGIN_PAUSES.into_iter();
    loop {
        match (open(credential).await, pauses.next()) {
            (Ok(_), _) => return Ok(true),
            (Err(DbError::Unauthorized), Some(pause)) => tokio::time::sleep(pause).await,
            (Err(error), _) => return Err(error),
        }
    }
}
