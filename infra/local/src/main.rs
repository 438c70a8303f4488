//! `cargo local`: the local stack in the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes on one line. A backtrace through the runtime does not help a user who lacks a package.
            eprintln!("{} {error:#}", console::style("error:").red().bold());
            ExitCode::FAILURE
        }
    }
}
