//! What a stack is asked for and what it tells about itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::live::Live;

/// How to start a stack.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checkout.
    pub root: PathBuf,
    /// Where the stack keeps its files. One stack at a time runs on it.
    pub state_dir: PathBuf,
    /// The emulator's port, which is the API's, while nobody else listens on it; else a free one.
    pub fixed_port: Option<u16>,
    /// Whether the functions are release binaries, as they are deployed, and not debug ones.
    pub release: bool,
    /// Whether to start with an empty database instead of what the last start left.
    pub fresh: bool,
    /// The owner's URL of a database to use instead of a private cluster.
    pub database_url: Option<String>,
    /// Whether to show what is being done on standard error.
    pub progress: bool,
    /// More parameters of the template; those that it does not declare are left out.
    pub parameters: Vec<(String, String)>,
    /// Real vendors instead of stand-ins.
    pub live: Option<Live>,
}

impl Options {
    /// A stack in `state_dir` below the checkout, on a free port, built first, with an empty database.
    pub fn new(root: impl Into<PathBuf>, state_dir: impl AsRef<std::path::Path>) -> Self {
        let root = root.into();
        let state_dir = root.join(state_dir);
        Self {
            root,
            state_dir,
            fixed_port: None,
            release: false,
            fresh: true,
            database_url: None,
            progress: false,
            parameters: Vec::new(),
            live: None,
        }
    }
}

/// An account to try the API with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Demo {
    /// A bearer token of the account's owner.
    pub token: String,
    /// The account.
    pub account_id: String,
    /// A business profile of the account.
    pub business_profile_id: String,
}

/// What `stack.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StackInfo {
    /// Address of the HTTP API, without a slash at its end.
    pub api: String,
    /// Address of the emulator, for any AWS SDK.
    pub aws_endpoint: String,
    /// The login that API functions use: it can become `oslira_api`.
    pub database_url: String,
    /// The owner of the schema.
    pub admin_database_url: String,
    /// Address of the stand-ins; its `/_control` sets faults and latencies.
    pub sandbox: String,
    /// The demo account.
    pub demo: Demo,
}
