//! One statement, one transaction, one round trip, as the role that the session may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use oslira_credential::Credential;
use oslira_domain::UserId;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::connect::{Connection, DatabaseLogin, connect};
use crate::error::DbError;

/// A statement's parameter with its type. Naming the type saves a round trip to the server.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// How long a user's statement may take in all, with fetching the credential, connecting and a second attempt, which a cold start on a busy
/// machine prolongs. The login's own `statement_timeout` (8 s) bounds the database's part; this one leaves time to respond within API Gateway's
/// 29 s.
const USER_DEADLINE: Duration = Duration::from_secs(20);
/// The same for the workflow, whose login may take 20 s and whose functions have 30 s or more.
const ADMIN_DEADLINE: Duration = Duration::from_secs(22);
/// The longest pause before another attempt.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Returns the growing pauses between attempts at a database that has no free connection or is away. They end with the caller's own deadline.
pub fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(MAX_PAUSE / 20).with_max_delay(MAX_PAUSE).with_jitter().without_max_times()
}

/// The role of the API's transactions: reads as a signed-in user does, and may execute the API's functions.
const API_ROLE: &str = "oslira_api";

/// When a session closes its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    /// Between requests it stays open. An endpoint's next request saves opening one.
    Kept,
    /// It ends with the statement, unless another one waits for it. So no connection is open while a vendor works or after an invocation has
    /// responded, whichever function wrote it. An environment that is frozen with an open connection occupies a client slot of the pooler,
    /// which has a few hundred for each login.
    Statement,
}

/// One connection, opened when a statement needs it.
struct Session {
    credential: Credential<DatabaseLogin>,
    connection: Mutex<Option<Connection>>,
    /// How many statements run or wait.
    statements: AtomicUsize,
    lifetime: Lifetime,
    deadline: Duration,
}

/// Counts a statement for as long as it runs or waits.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(statements: &'a AtomicUsize) -> Self {
        statements.fetch_add(1, Ordering::SeqCst);
        Self(statements)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Session {
    fn new(credential: Credential<DatabaseLogin>, lifetime: Lifetime, deadline: Duration) -> Arc<Self> {
        Arc::new(Self { credential, connection: Mutex::new(None), statements: AtomicUsize::new(0), lifetime, deadline })
    }

    /// Fetches the login, and opens the connection if it is one that stays open. A failure is not remembered.
    async fn warm_up(&self) {
        self.credential.warm_up().await;
        let mut slot = self.connection.lock().await;
        if self.lifetime == Lifetime::Kept && slot.is_none() {
            *slot = connect(&self.credential).await.ok();
        }
    }

    /// Runs `sql` in a transaction of its own as `role` with `claims`. When the time is over, the connection is dropped: what is still in it is
    /// unknown.
    async fn run(&self, role: &str, claims: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        let _counted = Counted::new(&self.statements);
        let result = tokio::time::timeout(self.deadline, self.run_queued(role, claims, sql, params)).await;
        result.unwrap_or_else(|_| Err(DbError::Unavailable("the deadline of the statement is over".to_owned())))
    }

    async fn run_queued(&self, role: &str, claims: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        // The lock is held until COMMIT has succeeded: two pipelines on one connection would share a transaction.
        let mut slot = self.connection.lock().await;
        let mut is_reused = true;
        loop {
            let connection = if let Some(connection) = slot.take().filter(|connection| !connection.is_closed()) {
                connection
            } else {
                is_reused = false;
                self.connect().await?
            };
            match pipeline(&connection.client, role, claims, sql, params).await {
                // An idle connection had ended unnoticed: the statement is sent again on a new one, once.
                Err(DbError::Unavailable(_)) if is_reused => {}
                Err(error @ DbError::Unavailable(_)) => return Err(error),
                result => {
                    if self.lifetime == Lifetime::Kept || self.statements.load(Ordering::SeqCst) > 1 {
                        *slot = Some(connection);
                    } else {
                        connection.close().await;
                    }
                    return result;
                }
            }
        }
    }

    /// Opens a connection. The admin login's statements wait for a free one: they have the time, and most of their callers would only try again.
    async fn connect(&self) -> Result<Connection, DbError> {
        if self.lifetime == Lifetime::Kept {
            return connect(&self.credential).await;
        }
        let is_full = |error: &DbError| matches!(error, DbError::TooManyConnections(_));
        // Ends with the statement's deadline, which says less than the pooler's own error does.
        let waited = tokio::time::timeout(self.deadline * 3 / 4, (|| connect(&self.credential)).retry(pauses()).when(is_full)).await;
        waited.unwrap_or_else(|_| Err(DbError::TooManyConnections("no connection became free".to_owned())))
    }
}

/// Sends BEGIN, role, statement and COMMIT without waiting in between. The first error counts: whatever follows it in an aborted
/// transaction fails too, and its COMMIT is a ROLLBACK.
async fn pipeline(client: &Client, role: &str, claims: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
    let settings: [Param<'_>; 2] = [(&role, Type::TEXT), (&claims, Type::TEXT)];
    let (begin, role, rows, commit) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        client.query_typed("SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", &settings),
        client.query_typed(sql, params),
        client.batch_execute("COMMIT"),
    );
    begin?;
    role?;
    let rows = rows?;
    commit?;
    Ok(rows)
}

/// Reads the JSON document that a statement returns: the first column of its only row. No row and SQL's NULL read as JSON's `null`, so a
/// document that may be absent is an `Option`.
///
/// # Errors
/// [`DbError::Unexpected`] for a document of another shape, such as an outcome that this version does not know.
fn document<T: DeserializeOwned>(rows: &[Row]) -> Result<T, DbError> {
    let found = rows.first().map(|row| row.try_get::<_, Option<Json<T>>>(0)).transpose()?.flatten();
    match found {
        Some(Json(document)) => Ok(document),
        None => T::deserialize(serde_json::Value::Null).map_err(|_| DbError::Unexpected("no document".to_owned())),
    }
}

/// The verified claims of a caller, as policies read them.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The caller.
    pub user_id: UserId,
}

/// The database as a user sees it: row-level security decides, with the caller's claims in every transaction.
#[derive(Clone)]
pub struct UserDb(Arc<Session>);

impl UserDb {
    /// Creates a client that connects when it is first used, and keeps the connection.
    pub fn new(credential: Credential<DatabaseLogin>) -> Self {
        Self(Session::new(credential, Lifetime::Kept, USER_DEADLINE))
    }

    /// Opens the connection, before a request needs it. Errors are ignored.
    pub async fn warm_up(&self) {
        self.0.warm_up().await;
    }

    async fn query(&self, claims: &Claims, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        // The claims are those of the caller's token, whose role is `authenticated`. The transaction's own role is the API's.
        let claims = serde_json::json!({ "sub": claims.user_id, "role": "authenticated" }).to_string();
        self.0.run(API_ROLE, &claims, sql, params).await
    }

    /// Runs a statement that returns one JSON document, and reads it as [`document`] does.
    pub(crate) async fn call<T: DeserializeOwned>(&self, claims: &Claims, sql: &str, params: &[Param<'_>]) -> Result<T, DbError> {
        document(&self.query(claims, sql, params).await?)
    }

    /// Runs a statement that returns nothing of interest.
    pub(crate) async fn execute(&self, claims: &Claims, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        self.query(claims, sql, params).await.map(drop)
    }

    /// Checks that a statement succeeds.
    ///
    /// # Errors
    /// As any statement.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.0.run(API_ROLE, "{}", "SELECT 1", &[]).await.map(drop)
    }
}

/// The database for the workflow and schedules: not bound to a tenant, and able to do only what the functions it may execute do.
#[derive(Clone)]
pub struct AdminDb(Arc<Session>);

impl AdminDb {
    /// Creates a client that opens a connection for a statement and closes it after it.
    pub fn new(credential: Credential<DatabaseLogin>) -> Self {
        Self(Session::new(credential, Lifetime::Statement, ADMIN_DEADLINE))
    }

    /// Creates a client that keeps its connection, for tools and tests that run many statements in a row.
    pub fn persistent(credential: Credential<DatabaseLogin>) -> Self {
        Self(Session::new(credential, Lifetime::Kept, ADMIN_DEADLINE))
    }

    /// Fetches the login, before a statement needs it. Opens no connection. Errors are ignored.
    pub async fn warm_up(&self) {
        self.0.warm_up().await;
    }

    pub(crate) async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.0.run("service_role", r#"{"role":"service_role"}"#, sql, params).await
    }

    /// Runs a statement that returns one JSON document, and reads it as [`document`] does.
    pub(crate) async fn call<T: DeserializeOwned>(&self, sql: &str, params: &[Param<'_>]) -> Result<T, DbError> {
        document(&self.query(sql, params).await?)
    }

    /// Runs a statement that returns nothing of interest.
    pub(crate) async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<(), DbError> {
        self.query(sql, params).await.map(drop)
    }
}

/// Runs a statement whose caller does not wait longer than `limit`, such as a client that polls. The connection is dropped with the statement.
///
/// # Errors
/// [`DbError::Unavailable`] after `limit`, else the statement's own.
pub async fn within<T>(limit: Duration, statement: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    let outcome = tokio::time::timeout(limit, statement).await;
    outcome.unwrap_or_else(|_| Err(DbError::Unavailable(format!("no result within {} s", limit.as_secs()))))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_statement_on_a_silent_server_ends_at_its_deadline() {
        // Connections are accepted and stay silent.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://u:p@{}/d?sslmode=disable", listener.local_addr().unwrap());
        let credential = Credential::fixed(DatabaseLogin { url: url.into(), ca: None });
        let db = UserDb(Session::new(credential, Lifetime::Kept, Duration::from_millis(200)));
        let started = Instant::now();
        // The second waits for the first.
        let (one, two) = tokio::join!(db.ping(), db.ping());
        assert!(matches!((one, two), (Err(DbError::Unavailable(_)), Err(DbError::Unavailable(_)))));
        assert!(started.elapsed() < Duration::from_secs(2));
        // A caller may have less patience, and leaves the next one a session that works.
        let db = UserDb(Session::new(db.0.credential.clone(), Lifetime::Kept, Duration::from_mins(1)));
        for _ in 0..2 {
            let started = Instant::now();
            assert!(matches!(within(Duration::from_millis(200), db.ping()).await, Err(DbError::Unavailable(_))));
            assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        }
    }

    #[tokio::test]
    async fn a_login_that_keeps_its_connection_opens_it_during_init_and_no_other_does() {
        for (lifetime, expected) in [(Lifetime::Kept, 1), (Lifetime::Statement, 0)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("postgres://u:p@{}/d?sslmode=disable", listener.local_addr().unwrap());
            let (fetched, opened) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
            let counter = fetched.clone();
            let credential = Credential::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Ok(DatabaseLogin { url: url.clone().into(), ca: None }))
            });
            let session = Session::new(credential, lifetime, Duration::from_millis(200));
            let accept = async {
                while listener.accept().await.is_ok() {
                    opened.fetch_add(1, Ordering::SeqCst);
                }
            };
            tokio::select! {
                () = accept => {}
                () = session.warm_up() => {}
            }
            assert_eq!((fetched.load(Ordering::SeqCst), opened.load(Ordering::SeqCst)), (1, expected), "{lifetime:?}");
        }
    }
}
