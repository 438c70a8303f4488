//! The sandbox, checked with the vendors' own clients. A stand-in that these reject would prove nothing about our code.

use std::path::Path;
use std::sync::Arc;

use tokio::process::Command;

use crate::harness::{World, stack_test};

/// Runs a program, and fails the test with its output if it fails.
async fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}: {text}", program.display());
}

#[stack_test]
async fn the_vendors_own_sdks_accept_the_sandbox(_: Arc<World>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let check = root.join("infra/sandbox/sdk_check");
    let requirements = check.join("requirements.txt");
    // Kept between runs of the suite, and created again when the requirements change.
    let environment = root.join("target/sdk-check");
    let installed = environment.join("requirements.txt");
    if std::fs::read(&installed).ok() != std::fs::read(&requirements).ok() {
        let _ = std::fs::remove_dir_all(&environment);
        run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()]).await;
        let pip = environment.join("bin/pip");
        run(&pip, &["install", "--quiet", "--disable-pip-version-check", "-r", requirements.to_str().unwrap()]).await;
        std::fs::copy(&requirements, &installed).unwrap();
    }
    // A second sandbox, because the check injects faults and clears the call log.
    let own = sandbox::serve(sandbox::Options::default()).await.unwrap();
    run(&environment.join("bin/python"), &[check.join("check.py").to_str().unwrap(), &own.base_url]).await;
}
