//! Private virtual environments for tools in Python, created once for a checkout and again when the requirements change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::progress::Progress;

/// A tool that is installed with pip.
pub struct PythonTool {
    /// The name of the tool and of its environment.
    pub name: &'static str,
    /// The requirements that pip installs.
    pub requirements: &'static str,
}

/// The local AWS.
pub(crate) const EMULATOR: PythonTool = PythonTool { name: "emulator", requirements: include_str!("../emulator-requirements.txt") };
/// The validators of the template: AWS SAM, cfn-lint and statelint.
pub(crate) const CHECKS: PythonTool = PythonTool { name: "check", requirements: include_str!("../check-requirements.txt") };

/// Returns the Python of a tool's environment, which is created if necessary.
///
/// # Errors
/// Fails if there is no Python, or pip cannot install the tool.
pub async fn python(root: &Path, tool: &PythonTool) -> Result<PathBuf> {
    prepared(root, tool, Progress::new(true)).await
}

/// Does the same as [`python`] and reports to the given progress. Concurrent calls wait for each other.
pub(crate) async fn prepared(root: &Path, tool: &PythonTool, progress: Progress) -> Result<PathBuf> {
    let home = root.join(".local");
    let name = format!("{}-venv", tool.name);
    let venv = home.join(&name);
    let (python, installed) = (venv.join("bin/python"), venv.join("installed-requirements.txt"));
    let is_current = || python.exists() && fs::read_to_string(&installed).is_ok_and(|text| text == tool.requirements);
    if is_current() {
        return Ok(python);
    }
    fs::create_dir_all(&home)?;
    let lock = File::create(home.join(format!("{name}.lock")))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    if !is_current() {
        progress.phase(&format!("install the {} into .local/{name}", tool.name), |_| install(&venv, &python, tool)).await?;
        fs::write(&installed, tool.requirements)?;
    }
    drop(lock);
    Ok(python)
}

async fn install(venv: &Path, python: &Path, tool: &PythonTool) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    if run(Command::new("python3").args(["-c", "import venv, ensurepip"])).await.is_err() {
        bail!(
            "Python 3.10 or later with its venv module is needed for the {}: on Debian and Ubuntu, `apt-get install python3 python3-venv`",
            tool.name
        );
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv)).await.context("cannot create a virtual environment")?;
    let requirements = venv.join("requirements.txt");
    fs::write(&requirements, tool.requirements)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    run(&mut pip).await.with_context(|| format!("cannot install the {} with pip (is the package index reachable?)", tool.name))
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}", text.trim().lines().last().unwrap_or("it failed without a message"));
    }
    Ok(())
}
