//! The template and the state machine before AWS's own tools, offline.
#![allow(clippy::print_stderr, reason = "a command-line tool")]

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::emulator::REGION;
use crate::progress::Progress;
use crate::venv;

const TRANSLATE: &str = include_str!("../translate.py");

/// Runs `sam validate --lint`, `cfn-lint` on what SAM translates the template to, and `statelint`. Answers whether all are content; what they
/// say goes to standard error.
///
/// # Errors
/// When they cannot be installed or run.
pub async fn check(root: &Path) -> Result<bool> {
    let progress = Progress::new(true);
    let python = venv::shown(root, &venv::CHECKS, progress).await?;
    let program = |name: &str| {
        let mut command = Command::new(python.with_file_name(name));
        command.current_dir(root).env("AWS_DEFAULT_REGION", REGION).env("SAM_CLI_TELEMETRY", "0").kill_on_drop(true);
        command
    };
    let template = std::fs::read(root.join("template.yaml")).context("cannot read template.yaml")?;
    let mut content = true;
    content &=
        told("sam validate --lint", run(program("sam").args(["validate", "--lint", "--template-file", "template.yaml"]), &[]).await?);

    let translated = run(program("python").args(["-c", TRANSLATE]), &template).await?;
    if translated.status.success() {
        // W2001, a parameter that nothing uses, is looked for in the source, above: the translation puts some parameters' values in.
        let path = root.join(".local/translated-template.json");
        std::fs::write(&path, &translated.stdout)?;
        let lint = run(program("cfn-lint").args(["--ignore-checks", "W2001", "--regions", REGION, "--"]).arg(path), &[]).await?;
        content &= told("cfn-lint on SAM's translation", lint);
    } else {
        content &= told("SAM's translation", translated);
    }

    // With the names of the functions in their places: it wants to see URIs.
    let definition = std::fs::read_to_string(root.join("infra/analysis.asl.json")).context("cannot read infra/analysis.asl.json")?;
    let deployed = root.join(".local/analysis.asl.json");
    std::fs::write(&deployed, definition.replace("${", "arn:aws:lambda:").replace("FunctionArn}", ""))?;
    content &= told("statelint infra/analysis.asl.json", run(program("statelint").arg(deployed), &[]).await?);
    Ok(content)
}

async fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = process.stdin.take().context("no standard input")?;
    let (written, output) = tokio::join!(
        async move {
            let written = stdin.write_all(input).await;
            drop(stdin);
            written
        },
        process.wait_with_output()
    );
    // A program that does not read its input may end before it is written.
    written.or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
    Ok(output?)
}

/// Says what a tool found, and whether it found nothing.
fn told(what: &str, output: Output) -> bool {
    let content = output.status.success();
    let mark = if content { console::style("ok").green() } else { console::style("no").red() };
    eprintln!("{mark} {what}");
    if !content {
        for text in [output.stdout, output.stderr] {
            eprint!("{}", String::from_utf8_lossy(&text));
        }
    }
    content
}
