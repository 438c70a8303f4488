//! AWS's Runtime Interface Emulator, which is part of AWS SAM's package. It gives an event to a function's binary through Lambda's runtime API.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, bail};
use tokio::process::Command;

use crate::progress::Progress;
use crate::venv;

const SAM: &str = "1.170.0";

/// Returns the path of the emulator. Downloads AWS SAM (8 MB) once for a checkout.
///
/// # Errors
/// Fails if the download fails.
pub async fn runtime_interface_emulator(root: &Path) -> Result<PathBuf> {
    let home = root.join(".local/runtime-interface-emulator").join(SAM);
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let program = home.join(format!("samcli/local/rapid/aws-lambda-rie-{machine}"));
    if program.exists() {
        return Ok(program);
    }
    let python = venv::prepared(root, &venv::EMULATOR, Progress::new(false)).await?;
    let sam = format!("aws-sam-cli=={SAM}");
    let wheel = home.join(format!("aws_sam_cli-{SAM}-py3-none-any.whl"));
    let mut download = Command::new(&python);
    download.args(["-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--dest"]);
    run(download.arg(&home).arg(sam)).await?;
    run(Command::new(&python).args(["-m", "zipfile", "--extract"]).arg(wheel).arg(&home)).await?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("cannot download the Runtime Interface Emulator: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
