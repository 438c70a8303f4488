//! The emulator's private virtual environment, made once for a checkout and made again when the requirements change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::progress::Progress;

const REQUIREMENTS: &str = include_str!("../emulator-requirements.txt");

/// The environment's Python. Two stacks that start at once take turns.
pub(crate) async fn python(root: &Path, progress: Progress) -> Result<PathBuf> {
    let home = root.join(".local");
    let venv = home.join("emulator-venv");
    let (python, installed) = (venv.join("bin/python"), venv.join("installed-requirements.txt"));
    let is_current = || python.exists() && fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS);
    if is_current() {
        return Ok(python);
    }
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join("emulator-venv.lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if !is_current() {
        progress.phase("install the AWS emulator into .local/emulator-venv", |_| install(&venv, &python)).await?;
        fs::write(&installed, REQUIREMENTS)?;
    }
    drop(lock);
    Ok(python)
}

async fn install(venv: &Path, python: &Path) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    if run(Command::new("python3").args(["-c", "import venv, ensurepip"])).await.is_err() {
        bail!(
            "Python 3.10 or later with its venv module is needed for the AWS emulator: on Debian and Ubuntu, `apt-get install python3 python3-venv`"
        );
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv)).await.context("cannot create the emulator's virtual environment")?;
    let requirements = venv.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    run(&mut pip).await.context("cannot install the AWS emulator with pip (is the package index reachable?)")
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.trim().lines().last().unwrap_or("it ended without a word"));
    }
    Ok(())
}
