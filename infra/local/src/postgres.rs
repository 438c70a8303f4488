//! A private PostgreSQL cluster that uses the machine's own server binaries. It listens on the loopback interface only and never runs as root.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use crate::ports;
use crate::processes::{self, Mark, Service};
use crate::state::StateDir;

/// The database of the stack.
pub(crate) const DATABASE: &str = "oslira";

pub(crate) struct Cluster {
    service: Option<Service>,
    binaries: PathBuf,
    data: PathBuf,
    log: PathBuf,
    mark: Mark,
    /// The account of the server if this process is root.
    account: Option<User>,
    port: u16,
    password: String,
}

impl Cluster {
    /// Creates the cluster if there is none, and starts it. `fresh` deletes the data of earlier starts.
    pub(crate) async fn start(binaries: PathBuf, state: &StateDir, mark: &Mark, fresh: bool) -> Result<Self> {
        let account = account()?;
        let data = data_directory(state, account.as_ref())?;
        end_leftover(&data).await;
        let mut password: Option<String> = state.read("postgres.json");
        if fresh || password.is_none() || !data.join("PG_VERSION").exists() || version_of(&data) != version_of_server(&binaries) {
            empty(&data, account.as_ref())?;
            let new = crate::random_password();
            initialize(&binaries, &data, account.as_ref(), &new).await?;
            state.write("postgres.json", &new)?;
            password = Some(new);
        }
        let password = password.context("the cluster has no password")?;
        let mut cluster =
            Self { service: None, binaries, data, log: state.join("postgres.log"), mark: mark.clone(), account, port: 0, password };
        for attempt in 1.. {
            cluster.port = ports::free()?;
            match cluster.run().await {
                Ok(()) => break,
                Err(error) if attempt == 5 => return Err(error),
                Err(_) => {}
            }
        }
        Ok(cluster)
    }

    /// Returns the URL of a database with the superuser's login.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// Runs the server on the same port again.
    pub(crate) async fn run(&mut self) -> Result<()> {
        self.service = None;
        let mut command = self.program("postgres");
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=1200",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=128MB",
            "log_min_messages=warning",
            // The log must not contain statements with personal data.
            "log_min_error_statement=panic",
            "log_parameter_max_length_on_error=0",
        ] {
            command.args(["-c", setting]);
        }
        // Fast shutdown: ends sessions and leaves the files clean.
        let mut service = Service::start(command, &self.mark, &self.log, Signal::SIGINT)?;
        let patience = Instant::now() + Duration::from_mins(1);
        loop {
            if let Some(status) = service.ended() {
                bail!("PostgreSQL ended at once ({status}): see {}", self.log.display());
            }
            if tokio_postgres::connect(&self.url("postgres"), tokio_postgres::NoTls).await.is_ok() {
                self.service = Some(service);
                return Ok(());
            }
            if Instant::now() > patience {
                bail!("PostgreSQL has not responded in time: see {}", self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server like a crash: sessions are cut, and the next start recovers from the log.
    pub(crate) fn crash(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.stop(Signal::SIGQUIT);
        }
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.service.as_ref().map(Service::id)
    }

    fn program(&self, name: &str) -> Command {
        program(&self.binaries, &self.data, self.account.as_ref(), name)
    }
}

/// Returns the account of the server if this process is root.
fn account() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no account `postgres` to run it as");
}

/// Returns the data directory. For root it is a temporary directory, because the server's account may have no access to the checkout's parents.
fn data_directory(state: &StateDir, account: Option<&User>) -> Result<PathBuf> {
    let Some(_) = account else { return Ok(state.join("postgres")) };
    if let Some(remembered) = state.read::<PathBuf>("postgres-directory.json") {
        return Ok(remembered);
    }
    let name = format!("oslira-postgres{}", state.path().display().to_string().replace('/', "-"));
    let data = std::env::temp_dir().join(name);
    state.write("postgres-directory.json", &data)?;
    Ok(data)
}

/// Ends the processes of a server whose stack has ended. Its sessions must end too before another server may use the data.
async fn end_leftover(data: &Path) {
    loop {
        let left = processes::working_in(data);
        if left.is_empty() {
            // Its id may be that of a zombie, which PostgreSQL mistakes for a running server.
            let _ = fs::remove_file(data.join("postmaster.pid"));
            return;
        }
        processes::end(&left);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn empty(data: &Path, account: Option<&User>) -> Result<()> {
    if data.exists() {
        fs::remove_dir_all(data).with_context(|| format!("cannot empty {}", data.display()))?;
    }
    fs::create_dir(data).with_context(|| format!("cannot create {}", data.display()))?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    if let Some(user) = account {
        chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(())
}

async fn initialize(binaries: &Path, data: &Path, account: Option<&User>, password: &str) -> Result<()> {
    let file = data.with_extension("password");
    let _ = fs::remove_file(&file);
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file)?.write_all(password.as_bytes())?;
    if let Some(user) = account {
        chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let mut command = program(binaries, data, account, "initdb");
    command.arg("-D").arg(data).args([
        "-U",
        "postgres",
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
    ]);
    command.arg(format!("--pwfile={}", file.display()));
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await;
    fs::remove_file(&file)?;
    let output = output.context("cannot run initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn program(binaries: &Path, data: &Path, account: Option<&User>, name: &str) -> Command {
    let mut command = Command::new(binaries.join(name));
    command.env_clear().env("LANG", "C.UTF-8").env("TZ", "UTC").current_dir(if data.exists() { data } else { Path::new("/") });
    if let Some(user) = account {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn version_of(data: &Path) -> Option<String> {
    Some(fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().to_owned())
}

fn version_of_server(binaries: &Path) -> Option<String> {
    crate::prerequisites::postgres_version(binaries).map(|version| version.to_string())
}
