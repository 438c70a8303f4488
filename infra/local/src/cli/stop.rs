//! `cargo local stop` and `cargo local reset`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) fn stop(state_dir: &Path) -> Result<()> {
    let Some(owner) = local::owner(state_dir) else {
        println!("No stack is running.");
        return Ok(());
    };
    kill(Pid::from_raw(i32::try_from(owner)?), Signal::SIGTERM)?;
    let patience = Instant::now() + Duration::from_secs(30);
    while local::owner(state_dir) == Some(owner) {
        if Instant::now() > patience {
            bail!("process {owner} has not ended in time");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("Stopped.");
    Ok(())
}

pub(crate) fn reset(state_dir: &Path) -> Result<()> {
    if let Some(owner) = local::owner(state_dir) {
        bail!("a stack is running (process {owner}): `cargo local stop` first");
    }
    // Without the password, the next start creates a new cluster.
    for name in ["postgres.json", "demo-account.json"] {
        match std::fs::remove_file(state_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    println!("The next `cargo local` starts with an empty database.");
    Ok(())
}
