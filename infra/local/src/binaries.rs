//! Building the functions and the sandbox, as debug binaries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// What the workspace holds for the stack.
pub(crate) struct Binaries {
    names: BTreeSet<String>,
    directory: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

impl Binaries {
    /// Asks cargo for the packages under `functions/` and the sandbox.
    pub(crate) async fn of(root: &Path) -> Result<Self> {
        let mut command = cargo(root);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().await.context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let root = root.canonicalize()?;
        let (functions, sandbox) = (root.join("functions"), root.join("infra/sandbox"));
        let wanted = |package: &&Package| package.manifest_path.starts_with(&functions) || package.manifest_path.starts_with(&sandbox);
        let targets = metadata.packages.iter().filter(wanted).flat_map(|package| &package.targets);
        let names = targets.filter(|target| target.kind.iter().any(|kind| kind == "bin")).map(|target| target.name.clone()).collect();
        Ok(Self { names, directory: metadata.target_directory.join("debug") })
    }

    /// Where a binary lies.
    ///
    /// # Errors
    /// When no package builds it.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if self.names.contains(name) && path.exists() { Ok(path) } else { bail!("no package under functions/ builds a binary `{name}`") }
    }

    /// Builds them. With `shown`, cargo writes its own progress to the terminal; else its output appears only when it fails.
    pub(crate) async fn build(&self, root: &Path, shown: bool) -> Result<()> {
        let mut command = cargo(root);
        // The whole workspace, as `cargo test --workspace` has it: a selection of packages would unify features differently and
        // compile the dependencies a second time.
        command.args(["build", "--workspace", "--bins"]);
        if shown {
            let status = command.stdout(Stdio::null()).status().await.context("cannot run cargo")?;
            if !status.success() {
                bail!("the build failed: see above");
            }
        } else {
            let output = command.arg("--quiet").output().await.context("cannot run cargo")?;
            if !output.status.success() {
                bail!("the build failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(())
    }
}

impl Binaries {
    /// The same binaries as links in `directory`, so that a later build changes nothing under a stack that runs.
    pub(crate) fn linked(self, directory: PathBuf) -> Result<Self> {
        for name in &self.names {
            let (built, link) = (self.directory.join(name), directory.join(name));
            // Cargo puts a new file in the old one's place; a link keeps the old one. Another file system takes a copy.
            if built.exists() && std::fs::hard_link(&built, &link).is_err() {
                std::fs::copy(&built, &link).with_context(|| format!("cannot copy {}", built.display()))?;
            }
        }
        Ok(Self { directory, ..self })
    }
}

/// Cargo as a developer's shell would run it. `cargo run` and `cargo test` tell their child about its own package through variables;
/// passed on, build scripts would see them change and run again.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_CRATE_NAME"
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}
