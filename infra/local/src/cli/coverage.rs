//! `cargo local coverage`: runs every test on instrumented binaries and prints the coverage of lines.
//!
//! The functions are processes that the emulator starts and kills. Their counters are in a file that is mapped into memory (`%c`), one for each binary
//! (`%m`), shared by all of its processes, so that no count is lost.

use std::collections::BTreeMap;
use std::fs;
use std::ops::AddAssign;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The version that the figures in the README come from.
const TOOL: &str = "0.9.1";

/// Counters in a mapped file are relocated at the start of the process.
const WRAPPER: &str = "#!/bin/sh\nexec \"$@\" -C llvm-args=-runtime-counter-relocation\n";

/// A group of crates: its name, its folders, and the minimum coverage of lines in percent.
const GROUPS: [(&str, &[&str], Option<f64>); 5] = [
    ("domain", &["shared/domain/"], Some(100.0)),
    ("handlers", &["functions/"], Some(90.0)),
    ("infrastructure", &["shared/aws/", "shared/db/", "shared/http/", "shared/telemetry/", "shared/vendors/"], Some(70.0)),
    ("cargo local", &["infra/local/"], None),
    ("sandbox", &["infra/sandbox/"], None),
];

pub(crate) struct Options {
    /// Arguments of `cargo test`. Without any, all tests run.
    pub(crate) tests: Vec<String>,
    /// Whether to print every line that no test runs.
    pub(crate) missing: bool,
    /// Whether to add to the counts of earlier runs.
    pub(crate) add: bool,
}

pub(crate) async fn coverage(root: &Path, options: &Options) -> Result<()> {
    let target = root.join("target/coverage");
    fs::create_dir_all(&target)?;
    let tool = tool(root).await?;
    let instrumented = environment(root, &tool, &target).await?;
    if !options.add {
        for counters in fs::read_dir(&target)?.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "profraw")) {
            fs::remove_file(counters.path())?;
        }
    }
    let mut tests = local::cargo(root);
    tests.envs(&instrumented).args(["test", "--workspace", "--no-fail-fast"]).args(&options.tests);
    let passed = tests.status().await.context("cannot run cargo")?.success();

    let lines = target.join("lines.lcov");
    let mut report = Command::new(&tool);
    report.current_dir(root).envs(&instrumented).args(["llvm-cov", "report", "--lcov", "--output-path"]).arg(&lines);
    run(&mut report).await.context("cargo llvm-cov report")?;
    let files = measured(root, &fs::read_to_string(&lines)?)?;
    let low = print(&files, options.missing);
    if !passed {
        bail!("tests failed: the figures cover what ran until then");
    }
    if !low.is_empty() {
        bail!("below the minimum: {}", low.join(", "));
    }
    Ok(())
}

/// Returns the path of `cargo-llvm-cov`. Installs it for this checkout if necessary, and the LLVM tools of the toolchain.
async fn tool(root: &Path) -> Result<PathBuf> {
    let home = root.join(".local/tools");
    let tool = home.join("bin/cargo-llvm-cov");
    let version = Command::new(&tool).args(["llvm-cov", "--version"]).output().await;
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(TOOL)) {
        println!("installing cargo-llvm-cov {TOOL} into .local/tools");
        let mut install = local::cargo(root);
        install.args(["install", "cargo-llvm-cov", "--version", TOOL, "--locked", "--quiet", "--force", "--root"]).arg(&home);
        run(&mut install).await.context("cargo install cargo-llvm-cov")?;
    }
    let mut component = Command::new("rustup");
    run(component.current_dir(root).args(["component", "add", "llvm-tools"])).await.context("rustup component add llvm-tools")?;
    Ok(tool)
}

/// Returns the environment that builds and runs instrumented binaries in a target directory of their own.
async fn environment(root: &Path, tool: &Path, target: &Path) -> Result<BTreeMap<String, String>> {
    let mut show = Command::new(tool);
    show.current_dir(root).env("CARGO_TARGET_DIR", target).args(["llvm-cov", "show-env", "--no-cfg-coverage"]);
    let output = run(&mut show).await.context("cargo llvm-cov show-env")?;
    let variable = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()));
    let mut variables: BTreeMap<String, String> = output.lines().filter_map(variable).collect();
    let file = variables.get("LLVM_PROFILE_FILE").and_then(|file| file.split_once('%')).context("show-env names no file for counters")?;
    let file = format!("{}%m%c.profraw", file.0);
    let wrapper = target.join("rustc");
    fs::write(&wrapper, WRAPPER)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    variables.extend([
        ("LLVM_PROFILE_FILE".to_owned(), file),
        ("RUSTC_WORKSPACE_WRAPPER".to_owned(), wrapper.display().to_string()),
        ("CARGO_TARGET_DIR".to_owned(), target.display().to_string()),
        // Incremental builds take twenty gigabytes, which this build does not use.
        ("CARGO_INCREMENTAL".to_owned(), "0".to_owned()),
    ]);
    Ok(variables)
}

async fn run(command: &mut Command) -> Result<String> {
    let output = command.kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The executable lines of a file, and those of them that did not run.
#[derive(Default)]
struct Measured {
    lines: usize,
    missing: Vec<usize>,
}

impl AddAssign<&Self> for Measured {
    fn add_assign(&mut self, other: &Self) {
        self.lines += other.lines;
        self.missing.extend(&other.missing);
    }
}

impl Measured {
    #[allow(clippy::cast_precision_loss, reason = "a number of lines")]
    fn percent(&self) -> f64 {
        if self.lines == 0 { 0.0 } else { 100.0 * (self.lines - self.missing.len()) as f64 / self.lines as f64 }
    }

    fn percent_text(&self) -> String {
        // Truncated, so that 100 % means all lines.
        format!("{:.1} %", (self.percent() * 10.0).floor() / 10.0)
    }

    /// Returns the ranges of lines that did not run.
    fn missing_text(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for line in &self.missing {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *line => *last = *line,
                _ => ranges.push((*line, *line)),
            }
        }
        let text = |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
        ranges.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

/// The files of the workspace by their path, without the lines that are tests themselves.
fn measured(root: &Path, lcov: &str) -> Result<BTreeMap<String, Measured>> {
    let mut files: BTreeMap<String, Measured> = BTreeMap::new();
    let root = root.canonicalize()?;
    let mut current: Option<(String, usize)> = None;
    for record in lcov.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            let path = Path::new(path);
            let ours = path.strip_prefix(&root).ok().filter(|path| !is_tests(path));
            current = ours.map(|ours| (ours.display().to_string(), first_line_of_tests(path)));
        } else if let (Some((path, tests)), Some((line, count))) =
            (&current, record.strip_prefix("DA:").and_then(|text| text.split_once(',')))
        {
            let line: usize = line.parse()?;
            if line < *tests {
                let file = files.entry(path.clone()).or_default();
                file.lines += 1;
                if count.split(',').next() == Some("0") {
                    file.missing.push(line);
                }
            }
        }
    }
    Ok(files)
}

fn is_tests(path: &Path) -> bool {
    path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Where the module of a file's unit tests begins, which is its last item.
fn first_line_of_tests(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(begins).map_or(usize::MAX, |at| at + 1)
}

/// Prints the table. Returns the groups below their minimum.
fn print(files: &BTreeMap<String, Measured>, missing: bool) -> Vec<&'static str> {
    let mut low = Vec::new();
    println!("\n{:<16} {:>7} {:>7} {:>8}   promised", "", "lines", "run", "");
    for (name, folders, promised) in GROUPS {
        let mut group = Measured::default();
        let of_group = || files.iter().filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)));
        of_group().for_each(|(_, file)| group += file);
        let wanted = promised.map(|percent| format!("{percent:.0} %")).unwrap_or_default();
        println!("{name:<16} {:>7} {:>7} {:>8}   {wanted}", group.lines, group.lines - group.missing.len(), group.percent_text());
        if promised.is_some_and(|promised| group.percent() < promised) {
            low.push(name);
        }
        if missing {
            for (path, file) in of_group().filter(|(_, file)| !file.missing.is_empty()) {
                println!("    {path} {}: {}", file.percent_text(), file.missing_text());
            }
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_and_of_other_crates_do_not_count() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let own = root.join("infra/local/src/cli/coverage.rs");
        let last = first_line_of_tests(&own);
        let lcov = format!(
            "SF:{own}\nDA:1,5\nDA:3,0\nDA:4,0\nDA:6,0\nDA:{last},0\nend_of_record\nSF:/elsewhere/lib.rs\nDA:1,0\nend_of_record\nSF:{tests}\nDA:1,0\n",
            own = own.display(),
            tests = root.join("shared/vendors/src/ai/tests.rs").display()
        );
        let files = measured(&root, &lcov).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["infra/local/src/cli/coverage.rs"]);
        let file = &files["infra/local/src/cli/coverage.rs"];
        assert_eq!((file.lines, file.percent_text(), file.missing_text()), (4, "25.0 %".to_owned(), "3-4 6".to_owned()));
    }

    #[test]
    fn a_hundred_percent_means_all() {
        let mut file = Measured { lines: 10_000, missing: vec![7] };
        assert_eq!(file.percent_text(), "99.9 %");
        file.missing.clear();
        assert_eq!(file.percent_text(), "100.0 %");
    }
}
