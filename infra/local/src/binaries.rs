//! Building the functions and the sandbox, as debug binaries unless they are to be measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

/// What the workspace holds for the stack.
pub(crate) struct Binaries {
    paths: BTreeMap<String, PathBuf>,
    release: bool,
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
    /// Asks cargo for the packages under `functions/` and those that stand beside them. `release` is about the functions alone.
    pub(crate) async fn of(root: &Path, release: bool) -> Result<Self> {
        let mut command = cargo(root);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().await.context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let root = root.canonicalize()?;
        let profile = |package: &Package| {
            let is_in = |folder: &str| package.manifest_path.starts_with(root.join(folder));
            let function = is_in("functions") || is_in("infra/hello");
            (function || is_in("infra/sandbox")).then_some(if function && release { "release" } else { "debug" })
        };
        let mut paths = BTreeMap::new();
        for package in &metadata.packages {
            let Some(profile) = profile(package) else { continue };
            for target in package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "bin")) {
                paths.insert(target.name.clone(), metadata.target_directory.join(profile).join(&target.name));
            }
        }
        Ok(Self { paths, release })
    }

    /// Where a binary lies.
    ///
    /// # Errors
    /// When no package builds it.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.paths.get(name).filter(|path| path.exists());
        path.cloned().with_context(|| format!("no package under functions/ builds a binary `{name}`"))
    }

    /// Builds them. With `shown`, cargo writes its own progress to the terminal; else its output appears only when it fails.
    pub(crate) async fn build(&self, root: &Path, shown: bool) -> Result<()> {
        // The whole workspace, as `cargo test --workspace` has it: a selection of packages would unify features differently and
        // compile the dependencies a second time.
        run(cargo(root).args(["build", "--workspace", "--bins"]), shown).await?;
        if self.release {
            // As they are deployed: what only the tools need is not among their features.
            run(
                cargo(root).args(["build", "--release", "--workspace", "--bins"]).args(TOOLS.map(|tool| format!("--exclude={tool}"))),
                shown,
            )
            .await?;
        }
        Ok(())
    }
}

/// The packages that are never deployed, but for `hello`, which deployed ones are measured beside.
const TOOLS: [&str; 4] = ["local", "sandbox", "oslira-openapi", "oslira-tests"];

async fn run(command: &mut Command, shown: bool) -> Result<()> {
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

impl Binaries {
    /// The same binaries as links in `directory`, so that a later build changes nothing under a stack that runs.
    pub(crate) fn linked(self, directory: &Path) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for (name, built) in self.paths {
            let link = directory.join(&name);
            // Cargo puts a new file in the old one's place; a link keeps the old one. Another file system takes a copy.
            if built.exists() && std::fs::hard_link(&built, &link).is_err() {
                std::fs::copy(&built, &link).with_context(|| format!("cannot copy {}", built.display()))?;
            }
            paths.insert(name, link);
        }
        Ok(Self { paths, ..self })
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
