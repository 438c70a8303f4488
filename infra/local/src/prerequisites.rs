//! The requirements of the machine: Linux and PostgreSQL's server binaries. (`venv` covers Python.)

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::progress::Progress;

/// The oldest version of PostgreSQL that the migrations support.
const OLDEST: u32 = 15;

/// # Errors
/// Fails on any other system than Linux.
pub(crate) fn linux() -> Result<()> {
    if Path::new("/proc/self/environ").exists() {
        Ok(())
    } else {
        bail!("the local stack needs Linux: it finds its processes through /proc")
    }
}

/// Returns the directory of the server's binaries. Installs them if they are missing and the process may do so.
pub(crate) async fn postgres_binaries(progress: Progress) -> Result<PathBuf> {
    if let Some(found) = newest_postgres() {
        return Ok(found);
    }
    if Uid::effective().is_root() && on_path("apt-get").is_some() {
        progress.phase("install PostgreSQL with apt-get", |_| install_postgres()).await?;
        if let Some(found) = newest_postgres() {
            return Ok(found);
        }
    }
    bail!("PostgreSQL {OLDEST} or later is needed (the server's binaries): on Debian and Ubuntu, `apt-get install postgresql`");
}

async fn install_postgres() -> Result<()> {
    for arguments in [&["update", "--quiet"][..], &["install", "--quiet", "--yes", "--no-install-recommends", "postgresql"]] {
        let mut command = tokio::process::Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").kill_on_drop(true);
        let output = command.output().await?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("apt-get {} failed: {}", arguments[0], text.trim().lines().last().unwrap_or_default());
        }
    }
    Ok(())
}

/// Returns the directory of the newest server binaries. Distributions install them outside PATH, in a directory for each version.
pub fn newest_postgres() -> Option<PathBuf> {
    let versioned =
        ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt"].iter().filter_map(|parent| std::fs::read_dir(parent).ok()).flatten();
    let versioned = versioned.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let flat = on_path("postgres").into_iter().chain(["/usr/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    let candidates = versioned.chain(flat).filter(|directory| directory.join("initdb").exists());
    candidates
        .filter_map(|directory| Some((postgres_version(&directory)?, directory)))
        .filter(|(version, _)| *version >= OLDEST)
        .max()
        .map(|(_, directory)| directory)
}

/// Returns the major version of the server in a directory.
pub(crate) fn postgres_version(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    // "postgres (PostgreSQL) 15.14 (Debian …)"
    String::from_utf8(output.stdout).ok()?.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|directory| directory.join(program).is_file())
}
