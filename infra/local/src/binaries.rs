//! Builds the functions and the sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// The binaries of the stack by their names.
pub(crate) struct Binaries {
    paths: BTreeMap<String, PathBuf>,
    profile: Option<&'static str>,
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
    /// Lists the binaries of the functions, of `hello` and of the sandbox. `profile` applies to all but the sandbox.
    pub(crate) async fn of(root: &Path, profile: Option<&'static str>) -> Result<Self> {
        let mut command = cargo(root);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().await.context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let root = root.canonicalize()?;
        let directory = |package: &Package| {
            let is_in = |folder: &str| package.manifest_path.starts_with(root.join(folder));
            let function = is_in("functions") || is_in("infra/hello");
            (function || is_in("infra/sandbox")).then_some(profile.filter(|_| function).unwrap_or("debug"))
        };
        let mut paths = BTreeMap::new();
        for package in &metadata.packages {
            let Some(directory) = directory(package) else { continue };
            for target in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bin")) {
                paths.insert(target.name.clone(), metadata.target_directory.join(directory).join(&target.name));
            }
        }
        Ok(Self { paths, profile })
    }

    /// Returns the path of a binary.
    ///
    /// # Errors
    /// Fails if no package builds it.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.paths.get(name).filter(|path| path.exists());
        path.cloned().with_context(|| format!("no package under functions/ builds a binary `{name}`"))
    }

    /// Builds them. If `verbose`, cargo writes its progress to the terminal, otherwise its output is part of the error.
    pub(crate) async fn build(&self, root: &Path, verbose: bool) -> Result<()> {
        // The whole workspace, as in `cargo test --workspace`: a selection of packages unifies features differently and compiles the dependencies
        // a second time.
        run(cargo(root).args(["build", "--workspace", "--bins"]), verbose).await?;
        if let Some(profile) = self.profile {
            // Without the tools, whose dependencies would add features to those of the functions.
            let mut command = cargo(root);
            command.args(["build", "--profile", profile, "--workspace", "--bins"]).args(TOOLS.map(|tool| format!("--exclude={tool}")));
            run(&mut command, verbose).await?;
        }
        Ok(())
    }
}

/// The packages that are never deployed, except `hello`, which the benchmarks compare functions with.
const TOOLS: [&str; 5] = ["eval", "local", "sandbox", "oslira-openapi", "oslira-tests"];

async fn run(command: &mut Command, verbose: bool) -> Result<()> {
    if verbose {
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

impl Binaries {
    /// Links the binaries into `directory`, so that a later build changes nothing for a running stack.
    pub(crate) fn linked(self, directory: &Path) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for (name, built) in self.paths {
            let link = directory.join(&name);
            // Cargo replaces the file, and the link keeps the old one. A link to another file system fails: copy the file instead.
            if built.exists() && std::fs::hard_link(&built, &link).is_err() {
                std::fs::copy(&built, &link).with_context(|| format!("cannot copy {}", built.display()))?;
            }
            paths.insert(name, link);
        }
        Ok(Self { paths, ..self })
    }
}

/// Returns a cargo command with the environment of a developer's shell. `cargo run` and `cargo test` set variables about the package of their
/// child process; if these were passed on, build scripts would see them change and run again.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let set_by_cargo = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) || name == "CARGO_CRATE_NAME"
        });
        if set_by_cargo {
            command.env_remove(name);
        }
    }
    command
}
