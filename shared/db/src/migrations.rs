//! Applies the migrations in order, each once, and sets the passwords of the logins that the first one creates.

use std::error::Error;
use std::time::{Duration, Instant};

use oslira_credential::Credential;
use secrecy::ExposeSecret;
use tokio_postgres::Client;

use crate::connect::{DatabaseLogin, connect, open, password_of};
use crate::error::DbError;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// The advisory lock that is held while migrations are applied.
const MIGRATION_LOCK: i64 = 7_026_384_201;
/// How long a migration may wait for a table: every statement that arrives after it waits as well.
const TABLE_LOCK_TIMEOUT: &str = "5s";
/// The pause before a migration is retried.
const PAUSE: Duration = Duration::from_secs(2);
/// The pauses before each further attempt with a login's new password: a pooler may remember the old one for a moment, and blocks a client
/// that it rejects often.
const LOGIN_PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// The outcome of [`migrate`].
#[derive(Debug)]
pub struct Schema {
    /// The last migration that is applied, such as `V7__bulk`.
    pub version: String,
    /// The migrations that this call applied.
    pub applied: Vec<String>,
}

/// Applies the migrations that are not applied yet, within `limit`. Concurrent callers run one after the other. Migrations that this version
/// does not know stay: a deployment may have gone back to an older version.
///
/// Needs a session of its own: a direct connection, or a pooler in session mode.
///
/// # Errors
/// Fails if the database cannot be reached, if a migration fails (its transaction is rolled back), or if an applied migration differs from
/// this version's (see [`differs`]).
pub async fn migrate(owner: &Credential<DatabaseLogin>, limit: Duration) -> Result<Schema, DbError> {
    let deadline = Instant::now() + limit;
    let mut connection = connect(owner).await?;
    let client = &mut connection.client;
    // Replaces the login's own limits, which are for short statements. The last two end the session of a caller that has died, and with it
    // the lock that it holds.
    let session = format!(
        "SET statement_timeout = '{limit}ms'; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = '1min'; SET idle_session_timeout = '1min';
         SELECT pg_advisory_lock({MIGRATION_LOCK}); SET lock_timeout = '{TABLE_LOCK_TIMEOUT}'",
        limit = limit.as_millis()
    );
    client.batch_execute(&session).await?;
    let outcome = loop {
        match apply(client).await {
            Err(DbError::Conflict(message)) if Instant::now() + PAUSE < deadline => {
                tracing::warn!(message, "a migration could not lock its tables and is retried");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => break outcome,
        }
    };
    // Explicitly, not by the end of the connection: a Lambda may be frozen for long before that.
    client.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})")).await?;
    connection.close().await;
    outcome
}

async fn apply(client: &mut Client) -> Result<Schema, DbError> {
    // The history is in `public`, where Supabase lets every API role write new tables. A run without migrations creates it, so that it is
    // closed before the first migration, which may fail.
    refinery::Runner::new(&[]).set_abort_missing(false).run_async(client).await.map_err(|error| failure(&error))?;
    client
        .batch_execute(
            "REVOKE ALL ON refinery_schema_history FROM PUBLIC, anon, authenticated, service_role;
             ALTER TABLE refinery_schema_history ENABLE ROW LEVEL SECURITY",
        )
        .await?;
    let runner = embedded::migrations::runner().set_abort_missing(false);
    let report = runner.run_async(client).await.map_err(|error| failure(&error))?;
    let last = runner.get_last_applied_migration_async(client).await.map_err(|error| failure(&error))?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    Ok(Schema { version: last.map(|migration| migration.to_string()).unwrap_or_default(), applied })
}

/// Names the migration that failed and its cause. A lock that timed out is a conflict.
fn failure(error: &refinery::Error) -> DbError {
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

/// Whether the database has a migration applied that differs from this version's of the same number.
///
/// Until the first deployment migrations are edited in place, so a local database of an older checkout can differ. It has to be created anew.
///
/// # Errors
/// Fails if the statement fails.
pub async fn differs(client: &Client) -> Result<bool, DbError> {
    let history = "SELECT to_regclass('public.refinery_schema_history') IS NOT NULL";
    if !client.query_one(history, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    let known = embedded::migrations::runner();
    let applied = client.query("SELECT version, checksum FROM refinery_schema_history", &[]).await?;
    for row in applied {
        let (version, checksum): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let same = known.get_migrations().iter().find(|migration| migration.version() == version);
        if same.is_some_and(|migration| migration.checksum().to_string() != checksum) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives the role `role` the password of its login, unless it has it already. Returns whether the password was set.
///
/// The server receives a verifier (SCRAM), so that no log of statements holds the password.
///
/// # Errors
/// Fails if the login is another role's or has no password, or if it is refused even with the new password.
pub async fn give_password(owner: &Credential<DatabaseLogin>, role: &str, login: &DatabaseLogin) -> Result<bool, DbError> {
    let password = password_of(login, role)?;
    if open(login).await.is_ok() {
        return Ok(false);
    }
    let verifier = postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes());
    connect(owner).await?.client.batch_execute(&format!("ALTER ROLE {role} PASSWORD '{verifier}'")).await?;
    let mut pauses = LOGIN_PAUSES.into_iter();
    loop {
        match (open(login).await, pauses.next()) {
            (Ok(_), _) => return Ok(true),
            (Err(DbError::Unauthorized), Some(pause)) => tokio::time::sleep(pause).await,
            (Err(error), _) => return Err(error),
        }
    }
}
