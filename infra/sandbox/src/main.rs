//! Runs the sandbox until SIGTERM or Ctrl-C.
#![allow(clippy::print_stdout, reason = "a command-line tool")]

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use sandbox::{Credentials, Options, serve};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-ins for Apify, OpenAI, Anthropic, Stripe, Supabase Auth and Sentry on one port of 127.0.0.1
#[derive(Debug, Parser)]
struct Arguments {
    /// The port, 0 for any free one
    #[arg(long, default_value_t = 0, env = "SANDBOX_PORT")]
    port: u16,
    /// A file that receives the port once the server accepts requests
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// The accepted Apify token
    #[arg(long, env = "SANDBOX_APIFY_TOKEN")]
    apify_token: Option<String>,
    /// The accepted OpenAI key
    #[arg(long, env = "SANDBOX_OPENAI_KEY")]
    openai_key: Option<String>,
    /// The accepted Anthropic key
    #[arg(long, env = "SANDBOX_ANTHROPIC_KEY")]
    anthropic_key: Option<String>,
    /// The accepted Stripe key
    #[arg(long, env = "SANDBOX_STRIPE_KEY")]
    stripe_key: Option<String>,
    /// The HS256 secret of the Supabase project
    #[arg(long, env = "SANDBOX_JWT_SECRET")]
    jwt_secret: Option<String>,
}

/// Writes the port to a second file and renames it, so that a reader never sees a part of it.
fn write_port(path: &Path, port: u16) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, port.to_string())
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (credentials, defaults) = (Credentials::default(), Options::default());
    let sandbox = serve(Options {
        port: arguments.port,
        credentials: Credentials {
            apify: arguments.apify_token.unwrap_or(credentials.apify),
            openai: arguments.openai_key.unwrap_or(credentials.openai),
            anthropic: arguments.anthropic_key.unwrap_or(credentials.anthropic),
            stripe: arguments.stripe_key.unwrap_or(credentials.stripe),
        },
        jwt_secret: arguments.jwt_secret.unwrap_or(defaults.jwt_secret),
    })
    .await?;
    println!("sandbox ready at {}", sandbox.base_url);
    if let Some(path) = &arguments.port_file {
        write_port(path, sandbox.port)?;
    }
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        result = sandbox.finished() => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}
