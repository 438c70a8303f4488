//! Validates the template and the state machine with AWS's own tools, offline.
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

/// Runs `sam validate --lint`, `cfn-lint` on SAM's translation of the template, and `statelint`. Returns whether all of them succeed. Their output
/// goes to standard error.
///
/// # Errors
/// Fails if a tool cannot be installed or run.
pub async fn check(root: &Path) -> Result<bool> {
    let progress = Progress::new(true);
    let python = venv::prepared(root, &venv::CHECKS, progress).await?;
    let program = |name: &str| {
        let mut command = Command::new(python.with_file_name(name));
        command.current_dir(root).env("AWS_DEFAULT_REGION", REGION).env("SAM_CLI_TELEMETRY", "0").kill_on_drop(true);
        command
    };
    let template = std::fs::read(root.join("template.yaml")).context("cannot read template.yaml")?;
    let mut valid = true;
    valid &=
        report("sam validate --lint", run(program("sam").args(["validate", "--lint", "--template-file", "template.yaml"]), &[]).await?);

    let translated = run(program("python").args(["-c", TRANSLATE]), &template).await?;
    if translated.status.success() {
        // SAM validates W2001, an unused parameter, in the source: the translation replaces some parameters by their values.
        let path = root.join(".local/translated-template.json");
        std::fs::write(&path, &translated.stdout)?;
        let lint = run(program("cfn-lint").args(["--ignore-checks", "W2001", "--regions", REGION, "--"]).arg(path), &[]).await?;
        valid &= report("cfn-lint on SAM's translation", lint);
    } else {
        valid &= report("SAM's translation", translated);
    }

    // statelint requires URIs: substitute the functions' names.
    let definition = std::fs::read_to_string(root.join("infra/analysis.asl.json")).context("cannot read infra/analysis.asl.json")?;
    let deployed = root.join(".local/analysis.asl.json");
    std::fs::write(&deployed, definition.replace("${", "arn:aws:lambda:").replace("FunctionArn}", ""))?;
    valid &= report("statelint infra/analysis.asl.json", run(program("statelint").arg(deployed), &[]).await?);
    Ok(valid)
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

/// Prints the outcome of a tool. Returns whether it succeeded.
fn report(what: &str, output: Output) -> bool {
    let succeeded = output.status.success();
    let mark = if succeeded { console::style("ok").green() } else { console::style("no").red() };
    eprintln!("{mark} {what}");
    if !succeeded {
        for text in [output.stdout, output.stderr] {
            eprint!("{}", String::from_utf8_lossy(&text));
        }
    }
    succeeded
}
