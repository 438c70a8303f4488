//! Sessions behind a pooler in transaction mode, such as Supabase's: a server connection serves another client after each transaction, so nothing
//! may be kept in a session and nothing may be prepared by name. The pooler is a real PgBouncer with two server connections.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use oslira_credential::Credential;
use oslira_db::runs::Cancellation;
use oslira_db::workflow::AdmissionOutcome;
use oslira_db::{AdminDb, Claims, DatabaseLogin, UserDb};
use oslira_domain::{AccountId, Run, RunId, RunStatus, Tier, UserId};

use crate::harness::{Account, World, stack_test, until};

/// A PgBouncer that ends with the test.
pub struct Pooler {
    process: Child,
    directory: PathBuf,
    port: u16,
}

/// The limits of a pooler.
pub struct Limits {
    /// Connections of clients.
    pub clients: u32,
    /// Connections to the database, for each login.
    pub servers: u32,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Returns PgBouncer's program, after installing it where that is possible.
fn program() -> PathBuf {
    let find =
        || ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].iter().map(PathBuf::from).find(|path| path.exists());
    find().unwrap_or_else(|| {
        for arguments in [&["update", "--quiet"][..], &["install", "--quiet", "--yes", "--no-install-recommends", "pgbouncer"]] {
            let _ = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()).status();
        }
        find().expect("PgBouncer is needed: on Debian and Ubuntu, `apt-get install pgbouncer`")
    })
}

impl Pooler {
    /// Starts one in front of the database that the URLs name, for the logins that they name. They may read its statistics too.
    pub async fn start(urls: &[&str], limits: &Limits) -> Self {
        let program = program();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = std::env::temp_dir().join(format!("oslira-pooler-{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        let configs: Vec<_> = urls.iter().map(|url| url.parse::<tokio_postgres::Config>().unwrap()).collect();
        let names = configs.iter().map(|config| config.get_user().unwrap()).collect::<Vec<_>>().join(", ");
        let users: Vec<String> = configs
            .iter()
            .map(|config| format!("\"{}\" \"{}\"", config.get_user().unwrap(), String::from_utf8_lossy(config.get_password().unwrap())))
            .collect();
        let (server, name) = (configs[0].get_ports()[0], configs[0].get_dbname().unwrap());
        let settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = plain\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = {}\nmax_client_conn = {}\nstats_users = {names}\n\
             logfile =\n",
            directory.join("users.txt").display(),
            limits.servers,
            limits.clients
        );
        std::fs::write(directory.join("users.txt"), users.join("\n")).unwrap();
        std::fs::write(directory.join("pgbouncer.ini"), settings).unwrap();
        let mut command = Command::new(&program);
        // It does not run as root.
        if nix::unistd::Uid::effective().is_root() {
            own(&directory);
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(&program);
        }
        let process =
            command.arg("--quiet").arg(directory.join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pooler = Self { process, directory, port };
        until("PgBouncer", Duration::from_secs(20), || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
        pooler
    }

    /// Returns the URL that leads a login through the pooler, to its database or to another one.
    pub fn url(&self, url: &str, database: Option<&str>) -> String {
        let (login, name) = (url.split_once('@').unwrap().0, url.rsplit_once('/').unwrap().1.split('?').next().unwrap());
        format!("{login}@127.0.0.1:{}/{}?sslmode=disable", self.port, database.unwrap_or(name))
    }

    fn source(&self, url: &str) -> Credential<DatabaseLogin> {
        Credential::fixed(DatabaseLogin { url: self.url(url, None).into(), ca: None })
    }
}

/// Gives a directory and its files to the user `postgres`.
fn own(directory: &Path) {
    let user = nix::unistd::User::from_name("postgres").unwrap().expect("the user postgres");
    for path in [directory.to_owned(), directory.join("users.txt"), directory.join("pgbouncer.ini")] {
        nix::unistd::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Runs what one tenant does, on a client connection of its own.
async fn tenant(account: &Account, users: UserDb, admin: AdminDb) {
    let world = &account.world;
    let owner: String = world.db.value("SELECT owner_id::text FROM accounts WHERE id = $1::text::uuid", &[&account.id]).await.unwrap();
    let claims = Claims { user_id: owner.parse::<UserId>().unwrap() };
    let own: AccountId = account.id.parse().unwrap();
    let profile = account.business_profile_id.parse().unwrap();
    for round in 0..5 {
        let username = world.handle("pooled").parse().unwrap();
        let check = users.precheck(&claims, None, profile, &username, None).await.unwrap().unwrap();
        assert_eq!((check.account_id, check.available, check.business_profile_exists), (own, 25, true), "round {round}");
        let run = Run {
            run_id: RunId::new(uuid::Uuid::now_v7()),
            account_id: own,
            business_profile_id: profile,
            requested_by: claims.user_id,
            username,
            tier: Tier::Xray,
            requested_at_ms: jiff::Timestamp::now().as_millisecond(),
        };
        assert_eq!(admin.admit(&run).await.unwrap().outcome, AdmissionOutcome::Admitted);
        assert_eq!(admin.begin_task(&run.run_id).await.unwrap().unwrap().status, RunStatus::Processing);
        let view = users.run(&claims, None, &run.run_id).await.unwrap();
        assert_eq!((view.account_ids, view.run.unwrap().credits_charged), (vec![own], 5));
        let cancellation = users.cancel(&claims, None, &run.run_id, None).await.unwrap();
        assert!(matches!(cancellation, Cancellation::Cancelled { credits_refunded: 5, .. }), "{cancellation:?}");
    }
}

#[stack_test]
async fn clients_share_two_connections_behind_a_transaction_pooler(world: Arc<World>) {
    let secret = |name: &'static str| {
        let world = world.clone();
        async move {
            let answer = world.secrets.get_secret_value().secret_id(format!("oslira/local/{name}")).send().await.unwrap();
            let secret: crate::harness::Value = serde_json::from_str(answer.secret_string().unwrap()).unwrap();
            secret["url"].as_str().unwrap().to_owned()
        }
    };
    let (user_url, admin_url) = (secret("database").await, secret("database-admin").await);
    let pooler = Pooler::start(&[&user_url, &admin_url], &Limits { clients: 200, servers: 2 }).await;
    let tenants = (0..20).map(|_| async {
        let account = world.account(25).await;
        tenant(&account, UserDb::new(pooler.source(&user_url)), AdminDb::new(pooler.source(&admin_url))).await;
    });
    futures::future::join_all(tenants).await;
}
