//! The options of a stack, and the description of a running one.

use std::path::PathBuf;

use aws_config::SdkConfig;
use serde::{Deserialize, Serialize};

use crate::emulator::{self, AccessKey};
use crate::live::Live;

/// How to start a stack.
#[derive(Debug, Clone)]
pub struct Options {
    /// The checkout.
    pub root: PathBuf,
    /// The directory of the stack's files. Only one stack at a time can use it.
    pub state_dir: PathBuf,
    /// The preferred port of the emulator and the API. If it is taken, another one is used.
    pub fixed_port: Option<u16>,
    /// The cargo profile of the functions; without one, they are debug binaries.
    pub profile: Option<&'static str>,
    /// Whether to start with an empty database instead of the one of the last start.
    pub fresh: bool,
    /// The URL of a database to use instead of a private cluster, with its owner's login.
    pub database_url: Option<String>,
    /// Whether to report progress on standard error.
    pub progress: bool,
    /// More parameters of the template. Those that it does not declare are ignored.
    pub parameters: Vec<(String, String)>,
    /// The real vendors to use instead of stand-ins.
    pub live: Option<Live>,
}

impl Options {
    /// Returns the options of a stack in `state_dir` below the checkout, on a free port, with debug binaries and an empty database.
    pub fn new(root: impl Into<PathBuf>, state_dir: impl AsRef<std::path::Path>) -> Self {
        let root = root.into();
        let state_dir = root.join(state_dir);
        Self {
            root,
            state_dir,
            fixed_port: None,
            profile: None,
            fresh: true,
            database_url: None,
            progress: false,
            parameters: Vec::new(),
            live: None,
        }
    }
}

/// An account for calls of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Demo {
    /// A bearer token of the account's owner.
    pub token: String,
    /// The account.
    pub account_id: String,
    /// A business profile of the account.
    pub business_profile_id: String,
}

/// The content of `stack.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StackInfo {
    /// The address of the HTTP API, without a trailing slash.
    pub api: String,
    /// The address of the emulator, for any AWS SDK.
    pub aws_endpoint: String,
    /// The key that it takes.
    pub aws_key: AccessKey,
    /// The login that API functions use: it can become `oslira_api`.
    pub database_url: String,
    /// The owner of the schema.
    pub admin_database_url: String,
    /// The address of the stand-ins. Its `/_control` sets faults and latencies.
    pub sandbox: String,
    /// The demo account.
    pub demo: Demo,
}

impl StackInfo {
    /// Returns the configuration for any AWS client.
    pub fn sdk_config(&self) -> SdkConfig {
        emulator::sdk_config(&self.aws_endpoint, &self.aws_key)
    }

    /// Returns the environment variables by which any AWS SDK reaches the emulator.
    pub fn aws_environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.aws_endpoint),
            ("AWS_REGION", emulator::REGION),
            ("AWS_ACCESS_KEY_ID", &self.aws_key.id),
            ("AWS_SECRET_ACCESS_KEY", &self.aws_key.secret),
        ]
    }
}
