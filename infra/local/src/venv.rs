//! Private virtual environments for the tools that are written in Python, made once for a checkout and made again when their requirements
//! change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::progress::Progress;

/// What is installed together, below `.local`.
pub(crate) struct Venv {
    name: &'static str,
    requirements: &'static str,
    what: &'static str,
}

/// The local AWS.
pub(crate) const EMULATOR: Venv =
    Venv { name: "emulator-venv", requirements: include_str!("../emulator-requirements.txt"), what: "the AWS emulator" };
/// What looks over the template.
pub(crate) const CHECKS: Venv =
    Venv { name: "check-venv", requirements: include_str!("../check-requirements.txt"), what: "AWS SAM and the validators" };

/// The environment's Python. Two processes that want it at once take turns.
pub(crate) async fn python(root: &Path, wanted: &Venv, progress: Progress) -> Result<PathBuf> {
    let home = root.join(".local");
    let venv = home.join(wanted.name);
    let (python, installed) = (venv.join("bin/python"), venv.join("installed-requirements.txt"));
    let is_current = || python.exists() && fs::read_to_string(&installed).is_ok_and(|text| text == wanted.requirements);
    if is_current() {
        return Ok(python);
    }
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join(format!("{}.lock", wanted.name)))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if !is_current() {
        let phase = format!("install {} into .local/{}", wanted.what, wanted.name);
        progress.phase(&phase, |_| install(wanted, &venv, &python)).await?;
        fs::write(&installed, wanted.requirements)?;
    }
    drop(lock);
    Ok(python)
}

async fn install(wanted: &Venv, venv: &Path, python: &Path) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    if run(Command::new("python3").args(["-c", "import venv, ensurepip"])).await.is_err() {
        bail!(
            "Python 3.10 or later with its venv module is needed for {}: on Debian and Ubuntu, `apt-get install python3 python3-venv`",
            wanted.what
        );
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv)).await.context("cannot create the virtual environment")?;
    let requirements = venv.join("requirements.txt");
    fs::write(&requirements, wanted.requirements)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    run(&mut pip).await.with_context(|| format!("cannot install {} with pip (is the package index reachable?)", wanted.what))
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.trim().lines().last().unwrap_or("it ended without a word"));
    }
    Ok(())
}
