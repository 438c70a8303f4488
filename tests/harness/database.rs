//! The database: queries of its owner, which survive restarts, and further databases.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, NoTls, Row};

use super::World;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The owner's connections.
#[derive(Clone)]
pub struct Pool {
    url: String,
    idle: Arc<Mutex<Vec<Client>>>,
}

impl Pool {
    pub fn new(url: String) -> Self {
        Self { url, idle: Arc::default() }
    }

    /// Opens a connection for a test's own transactions and locks.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await.expect("a connection to the database")
    }

    /// Returns the rows of a query, which is retried while the database restarts.
    pub async fn rows(&self, sql: &str, params: Params<'_>) -> Vec<Row> {
        for _ in 0..600 {
            let idle = self.idle.lock().await.pop().filter(|client| !client.is_closed());
            let client = if let Some(client) = idle {
                client
            } else if let Ok(client) = connect(&self.url).await {
                client
            } else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            match client.query(sql, params).await {
                Ok(rows) => {
                    self.idle.lock().await.push(client);
                    return rows;
                }
                Err(error) if error.as_db_error().is_some_and(|error| !error.code().code().starts_with("57")) => panic!("{sql}: {error:?}"),
                Err(_) => {}
            }
        }
        panic!("the database stays unavailable")
    }

    /// Returns the first column of the first row.
    pub async fn value<T: FromSqlOwned>(&self, sql: &str, params: Params<'_>) -> Option<T> {
        self.rows(sql, params).await.first().and_then(|row| row.get(0))
    }
}

/// Returns the files of all migrations, in order.
pub fn migration_files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations")).unwrap();
    let mut files: Vec<PathBuf> =
        folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "sql")).collect();
    files.sort();
    files
}

/// Connects to `url`. A task of its own drives the connection.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl World {
    /// Returns the faults of ledger and balances, none while they are consistent.
    pub async fn ledger_faults(&self) -> Vec<String> {
        let rows = self.db.rows("SELECT fault, subject FROM ledger_faults", &[]).await;
        rows.iter().map(|row| format!("{}: {}", row.get::<_, String>(0), row.get::<_, String>(1))).collect()
    }

    /// Waits until a statement that mentions `text` waits for a lock, which means that its function is in the middle of its transaction.
    /// For tests that run alone, because it sees the statements of all tests.
    pub async fn until_waiting(&self, text: &str) {
        self.until_all_waiting(1, text).await;
    }

    /// Waits until `count` statements that mention `text` wait for locks.
    pub async fn until_all_waiting(&self, count: i64, text: &str) {
        let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND position($1 in query) > 0 AND pid <> pg_backend_pid()
                   HAVING count(*) >= $2";
        super::until(text, std::time::Duration::from_mins(1), || async { self.db.value::<i32>(sql, &[&text, &count]).await }).await;
    }

    /// Creates a second database with every migration, for a test that would disturb others, and returns its URL.
    pub async fn fresh_database(&self, name: &str) -> String {
        let url = self.empty_database(name).await;
        self.migrate(&url).await;
        url
    }

    /// Creates a second, empty database and returns its URL.
    pub async fn empty_database(&self, name: &str) -> String {
        let client = self.db.connect().await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let (server, _) = self.stack.info().admin_database_url.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    /// Applies every migration, even those that were applied before. One call at a time, because roles belong to all databases of a server.
    pub async fn migrate(&self, url: &str) {
        static MIGRATING: Mutex<()> = Mutex::const_new(());
        let _guard = MIGRATING.lock().await;
        let client = connect(url).await.unwrap();
        let supabase = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/local/supabase.sql").into();
        for file in std::iter::once(supabase).chain(migration_files()) {
            let sql = std::fs::read_to_string(&file).unwrap();
            client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}", file.display()));
        }
    }
}
