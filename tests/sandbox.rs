//! The stand-ins are held to the vendors' own clients: what these do not accept proves nothing about our code.

use std::path::Path;
use std::sync::Arc;

use tokio::process::Command;

use crate::harness::{World, cases};

cases!(shared: the_vendors_own_sdks_accept_the_sandbox; alone:);

/// Runs `program` and fails with its output.
async fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}: {text}", program.display());
}

async fn the_vendors_own_sdks_accept_the_sandbox(_: Arc<World>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let check = root.join("infra/sandbox/sdk_check");
    let requirements = check.join("requirements.txt");
    // Kept between runs, and made again when the requirements change.
    let environment = root.join("target/sdk-check");
    let installed = environment.join("requirements.txt");
    if std::fs::read(&installed).ok() != std::fs::read(&requirements).ok() {
        let _ = std::fs::remove_dir_all(&environment);
        run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()]).await;
        let pip = environment.join("bin/pip");
        run(&pip, &["install", "--quiet", "--disable-pip-version-check", "-r", requirements.to_str().unwrap()]).await;
        std::fs::copy(&requirements, &installed).unwrap();
    }
    // A sandbox of its own: the check makes vendors fail and forgets what was logged.
    let own = sandbox::serve(sandbox::Options::default()).await.unwrap();
    run(&environment.join("bin/python"), &[check.join("check.py").to_str().unwrap(), &own.base_url]).await;
}
