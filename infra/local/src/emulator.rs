//! The local AWS: one MiniStack process on the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::ports;
use crate::processes::{Mark, Service};

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const ACCOUNT: &str = "000000000000";
/// The program that starts it.
const LAUNCHER: &str = include_str!("../emulator.py");

pub(crate) struct Emulator {
    /// Ends the process when it is dropped.
    _service: Service,
    pub(crate) endpoint: String,
    pub(crate) key: AccessKey,
}

/// A key of the local AWS's root user, which may do everything. Each start draws its own: a program on this machine that was not given it cannot
/// operate the stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its id, which is what the emulator checks.
    pub id: String,
    /// Its secret part, which SDKs need to sign.
    pub secret: String,
}

impl AccessKey {
    fn random() -> Self {
        let text = || uuid::Uuid::new_v4().simple().to_string();
        Self { id: format!("AKIA{}", text().to_uppercase()), secret: text() }
    }
}

/// The settings of its start.
pub(crate) struct Launch<'a> {
    pub(crate) python: &'a Path,
    pub(crate) home: PathBuf,
    pub(crate) log: &'a Path,
    pub(crate) mark: &'a Mark,
    pub(crate) port: Option<u16>,
}

impl Emulator {
    /// Starts the emulator on the given port, or on another one if it is taken.
    pub(crate) async fn start(http: &reqwest::Client, launch: &Launch<'_>) -> Result<Self> {
        let mut last = None;
        for attempt in 0..5 {
            let fixed = launch.port.filter(|port| attempt == 0 && ports::is_free(*port));
            match Self::attempt(http, launch, fixed.map_or_else(ports::free, Ok)?).await {
                Ok(emulator) => return Ok(emulator),
                Err(error) => last = Some(error),
            }
        }
        let log = launch.log.display();
        Err(last.context("not tried")?).with_context(|| format!("the AWS emulator does not start: see {log}"))
    }

    async fn attempt(http: &reqwest::Client, launch: &Launch<'_>, port: u16) -> Result<Self> {
        let (endpoint, key) = (format!("http://127.0.0.1:{port}"), AccessKey::random());
        let mut service = Service::start(command(launch, port, &endpoint, &key), launch.mark, launch.log, Signal::SIGKILL)?;
        let patience = Instant::now() + Duration::from_secs(30);
        let health = format!("{endpoint}/_ministack/health");
        loop {
            if let Some(status) = service.ended() {
                bail!("it ended at once ({status})");
            }
            if http.get(&health).timeout(Duration::from_secs(2)).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self { _service: service, endpoint, key });
            }
            if Instant::now() > patience {
                bail!("it has not responded in time");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Returns the command with an environment of its own, because every function inherits it: it must not contain credentials, endpoints or proxies of
/// the developer.
fn command(launch: &Launch<'_>, port: u16, endpoint: &str, key: &AccessKey) -> Command {
    let mut command = Command::new(launch.python);
    command.args(["-c", LAUNCHER]).current_dir(&launch.home).env_clear();
    let settings = [
        ("PATH", std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned())),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOME", launch.home.display().to_string()),
        ("TMPDIR", launch.home.display().to_string()),
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("GATEWAY_PORT", port.to_string()),
        ("MINISTACK_HOST", "localhost".to_owned()),
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("MINISTACK_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", key.id.clone()),
        ("AWS_SECRET_ACCESS_KEY", key.secret.clone()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        // Enforces the policies of the functions' roles, as AWS does. The key above is the root user's, which may do everything.
        ("AUTH", "true".to_owned()),
        // Two listeners that the stack does not need.
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        // The default of AWS. The emulator derives a lower one from the machine's memory.
        ("LAMBDA_ACCOUNT_CONCURRENCY", "1000".to_owned()),
        // After a burst there are hundreds of idle processes.
        ("LAMBDA_WARM_TTL_SECONDS", "60".to_owned()),
        ("LOG_LEVEL", "WARNING".to_owned()),
    ];
    // The file of the counters of instrumented binaries (`cargo local coverage`).
    let profile = std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file));
    command.envs(settings).envs(profile);
    command
}

/// Returns the ARN of a function.
pub(crate) fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// Returns the SDK's configuration for the emulator, without values from the developer's profiles or environment.
pub fn sdk_config(endpoint: &str, key: &AccessKey) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(&key.id, &key.secret, None, None, "local")))
        .build()
}
