//! One statement, one transaction, one round trip, as the one role that the caller may take.

use std::sync::Arc;
use std::time::Duration;

use oslira_credential::Credential;
use oslira_domain::UserId;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::connect::{DatabaseLogin, connect};
use crate::error::DbError;

/// A statement's parameter with its type: naming the type saves asking the server for it.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// How long a user's statement may take in all: fetching the credential, connecting and a second try included, which a cold start on a
/// crowded machine draws out. The login's own `statement_timeout` (8 s) is what bounds the database's part; this one leaves time to answer
/// within API Gateway's 29 s.
const USER_DEADLINE: Duration = Duration::from_secs(20);
/// The same for the workflow, whose login may take 20 s and whose functions have 30 s or more.
const ADMIN_DEADLINE: Duration = Duration::from_secs(22);

/// The role of the API's transactions: reads as a signed-in user does, and may execute the API's functions.
const API_ROLE: &str = "oslira_api";

/// One connection, opened when first needed and opened again when it ended.
struct Session {
    credential: Credential<DatabaseLogin>,
    client: Mutex<Option<Client>>,
    deadline: Duration,
}

impl Session {
    fn new(credential: Credential<DatabaseLogin>, deadline: Duration) -> Arc<Self> {
        Arc::new(Self { credential, client: Mutex::new(None), deadline })
    }

    /// Runs `sql` in a transaction of its own as `role` with `claims`. When time is up the connection is dropped: nobody knows what it
    /// still has in it.
    async fn run(&self, role: &str, claims: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        let answered = tokio::time::timeout(self.deadline, self.tried(role, claims, sql, params)).await;
        answered.unwrap_or_else(|_| Err(DbError::Unavailable("no answer in time".to_owned())))
    }

    async fn tried(&self, role: &str, claims: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        // The lock is held until COMMIT is answered: two pipelines on one connection would share a transaction.
        let mut slot = self.client.lock().await;
        let mut reused = true;
        loop {
            let client = if let Some(client) = slot.take().filter(|client| !client.is_closed()) {
                client
            } else {
                reused = false;
                connect(&self.credential).await?
            };
            match pipeline(&client, role, claims, sql, params).await {
                // A connection that had been idle died unnoticed: the statement goes out again on a new one, once.
                Err(DbError::Unavailable(_)) if reused => {}
                Err(error @ DbError::Unavailable(_)) => return Err(error),
                outcome => {
                    *slot = Some(client);
                    return outcome;
                }
            }
        }
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
    /// A client that connects when first used.
    pub fn new(credential: Credential<DatabaseLogin>) -> Self {
        Self(Session::new(credential, USER_DEADLINE))
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

    /// Whether it answers.
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
    /// A client that connects when first used.
    pub fn new(credential: Credential<DatabaseLogin>) -> Self {
        Self(Session::new(credential, ADMIN_DEADLINE))
    }

    pub(crate) async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, DbError> {
        self.0.run("service_role", r#"{"role":"service_role"}"#, sql, params).await
    }

    pub(crate) async fn one(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, DbError> {
        Ok(self.query(sql, params).await?.into_iter().next())
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up_in_time_whatever_the_statement_waits_for() {
        // Connections are taken and never answered.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://u:p@{}/d?sslmode=disable", listener.local_addr().unwrap());
        let credential = Credential::fixed(DatabaseLogin { url: url.into(), ca: None });
        let db = UserDb(Session::new(credential, Duration::from_millis(200)));
        let started = Instant::now();
        // The second waits for its turn first.
        let (one, two) = tokio::join!(db.ping(), db.ping());
        assert!(matches!((one, two), (Err(DbError::Unavailable(_)), Err(DbError::Unavailable(_)))));
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}
