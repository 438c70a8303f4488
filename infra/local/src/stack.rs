//! A running stack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use tokio::sync::Mutex;

use crate::binaries::Binaries;
use crate::database::{self, Account, Logins};
use crate::deploy::{self, Deployment};
use crate::emulator::{self, Emulator, Launch};
use crate::info::{Demo, Options, StackInfo};
use crate::live::Live;
use crate::postgres::Cluster;
use crate::processes::{self, Mark, Watchdog};
use crate::progress::Progress;
use crate::state::StateDir;
use crate::template::Template;
use crate::vendors::Sandbox;
use crate::{logs, prerequisites, routes, vendors, venv};

/// Files in the state directory.
const INFO: &str = "stack.json";
const DEMO_ACCOUNT: &str = "demo-account.json";
const FUNCTIONS: &str = "functions.json";

/// A running stack. Its processes end when it is dropped and when this process ends, even if it is killed.
pub struct Stack {
    info: StackInfo,
    deployment: Deployment,
    routes: Vec<String>,
    sdk: SdkConfig,
    http: reqwest::Client,
    mark: Mark,
    // Dropped in this order: users before what they use.
    _emulator: Emulator,
    _sandbox: Sandbox,
    postgres: Mutex<Option<Cluster>>,
    state: StateDir,
    _watchdog: Watchdog,
}

impl Stack {
    /// Builds, starts and deploys everything, and writes `stack.json`.
    ///
    /// # Errors
    /// Fails if a stack already uses the state directory, a prerequisite is missing, or a part does not build, start or deploy. Ends the processes
    /// that it has started by then.
    pub async fn start(options: Options) -> Result<Self> {
        let progress = Progress::new(options.progress);
        let state = StateDir::acquire(&options.state_dir)?;
        let mark = Mark::new(state.path());
        mark.end_earlier_starts().await;
        state.remove(INFO);

        prerequisites::linux()?;
        let postgres_binaries = match options.database_url {
            Some(_) => None,
            None => Some(prerequisites::postgres_binaries(progress).await?),
        };
        let python = venv::prepared(&options.root, &venv::EMULATOR, progress).await?;
        let binaries = Binaries::of(&options.root, options.profile).await?;
        build(&binaries, &options.root, progress).await?;
        let binaries = binaries.linked(&state.empty_dir("bin")?)?;

        let watchdog = Watchdog::start(&mark).context("cannot start /bin/sh")?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let (cluster, logins, sandbox, emulator) = progress
            .phase("start PostgreSQL, the AWS emulator and the sandbox", |_| async {
                let database = async {
                    let Some(binaries) = postgres_binaries else {
                        let yours = options.database_url.clone().unwrap_or_default();
                        return anyhow::Ok((None, database::prepare(yours).await.context("DATABASE_URL")?));
                    };
                    let cluster = Cluster::start(binaries, &state, &mark, options.fresh).await?;
                    let logins = database::prepare_in(&cluster, progress).await?;
                    Ok((Some(cluster), logins))
                };
                let home = state.empty_dir("emulator")?;
                let log = state.join("emulator.log");
                let launch = Launch { python: &python, home, log: &log, mark: &mark, port: options.fixed_port };
                let sandbox = binaries.path("sandbox")?;
                let ((cluster, logins), sandbox, emulator) =
                    tokio::try_join!(database, Sandbox::start(&sandbox, &state, &mark), Emulator::start(&http, &launch))?;
                Ok((cluster, logins, sandbox, emulator))
            })
            .await?;

        let sdk = emulator::sdk_config(&emulator.endpoint, &emulator.key);
        let template = Template::read(&options.root, &binaries, parameters(&options, &sandbox))?;
        let (deployment, routes) = progress
            .phase("deploy template.yaml", |phase| {
                let (sdk, template, logins, sandbox, live) = (&sdk, &template, &logins, &sandbox, options.live.as_ref());
                async move {
                    vendors::write_secrets(sdk, logins, sandbox, live).await?;
                    let deployment = deploy::deploy(sdk, template, &phase).await?;
                    let routes = routes::create(sdk, &deployment).await?;
                    database::complete(&logins.owner, live.is_some_and(Live::has_stripe)).await?;
                    Ok((deployment, routes))
                }
            })
            .await?;

        let demo = demo_account(&state, &http, &logins, &sandbox.base_url).await?;
        let api = format!("{0}/_aws/execute-api/{1}/$default", emulator.endpoint, deployment.api_id);
        if !options.live.as_ref().is_some_and(Live::has_stripe) {
            sandbox.deliver_events_to(&http, &api).await?;
        }
        let info = StackInfo {
            api,
            aws_endpoint: emulator.endpoint.clone(),
            aws_key: emulator.key.clone(),
            database_url: logins.user,
            admin_database_url: logins.owner,
            sandbox: sandbox.base_url.clone(),
            demo,
        };
        state.write(FUNCTIONS, &deployment.functions)?;
        state.write(INFO, &info)?;
        let postgres = Mutex::new(cluster);
        Ok(Self { info, deployment, routes, sdk, http, mark, _emulator: emulator, _sandbox: sandbox, postgres, state, _watchdog: watchdog })
    }

    /// Returns the content of `stack.json`.
    pub fn info(&self) -> &StackInfo {
        &self.info
    }

    /// Ends every process of the stack.
    pub async fn stop(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// Returns the outputs of the template.
    pub fn outputs(&self) -> &BTreeMap<String, String> {
        &self.deployment.outputs
    }

    /// Returns the ARN of the state machine.
    pub fn state_machine_arn(&self) -> &str {
        &self.deployment.state_machine_arn
    }

    /// Returns the names of the functions by their binaries.
    pub fn functions(&self) -> &BTreeMap<String, String> {
        &self.deployment.functions
    }

    /// Returns the template after SAM's transformation, as CloudFormation returns it.
    pub fn processed_template(&self) -> &serde_json::Value {
        &self.deployment.processed
    }

    /// Returns the keys of the API's routes, such as `GET /health`.
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// Returns the path of a binary that the stack runs.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.state.join("bin").join(name)
    }

    /// Returns the user who owns an account.
    ///
    /// # Errors
    /// Fails if the database does not respond.
    pub async fn owner_of(&self, demo: &Demo) -> Result<uuid::Uuid> {
        database::owner_of(&self.info.admin_database_url, &demo.account_id).await
    }

    /// Returns the state directory.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// Returns the configuration for any AWS client.
    pub fn sdk_config(&self) -> SdkConfig {
        self.sdk.clone()
    }

    /// Returns a client that ignores the proxies of the environment.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the processes that run a function's binary.
    pub fn function_pids(&self, binary: &str) -> Vec<u32> {
        let runs = |id: &u32| processes::executable(*id).is_some_and(|path| path.file_name().is_some_and(|name| name == binary));
        self.mark.processes().into_iter().filter(runs).collect()
    }

    /// Returns the log lines of a function, by the name of its binary, or of all functions.
    ///
    /// # Errors
    /// Fails if the function does not exist or the emulator does not respond.
    pub async fn log_lines(&self, function: Option<&str>) -> Result<Vec<String>> {
        let name =
            function.map(|binary| self.deployment.functions.get(binary).with_context(|| format!("no function {binary}"))).transpose()?;
        let lines = logs::lines(&self.sdk, name.map(String::as_str), 0).await?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    /// Creates an account with a business profile and the given credits.
    ///
    /// # Errors
    /// Fails if the database or the sandbox rejects it.
    pub async fn create_account(&self, credits: u32) -> Result<Demo> {
        create_account(&self.http, &self.info, credits).await
    }

    /// Ends PostgreSQL like a crash, unless the stack uses the developer's database.
    pub async fn stop_postgres(&self) {
        if let Some(cluster) = self.postgres.lock().await.as_mut() {
            cluster.crash();
        }
    }

    /// Starts PostgreSQL on its port again.
    ///
    /// # Errors
    /// Fails if it does not start.
    pub async fn start_postgres(&self) -> Result<()> {
        match self.postgres.lock().await.as_mut() {
            Some(cluster) => cluster.run().await,
            None => Ok(()),
        }
    }

    /// Ends PostgreSQL like a crash and starts it again.
    ///
    /// # Errors
    /// Fails if it does not start.
    pub async fn restart_postgres(&self) -> Result<()> {
        self.stop_postgres().await;
        self.start_postgres().await
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.state.remove(INFO);
        // Everything at once except the database, which shuts down later.
        let database = self.postgres.get_mut().as_ref().and_then(Cluster::id);
        let others: Vec<u32> = self.mark.processes().into_iter().filter(|id| Some(*id) != database).collect();
        processes::end(&others);
    }
}

/// Creates an account on a stack that may run in another process.
///
/// # Errors
/// Fails if the database or the sandbox rejects it.
pub async fn create_account(http: &reqwest::Client, info: &StackInfo, credits: u32) -> Result<Demo> {
    let account = database::create_account(&info.admin_database_url, credits).await?;
    demo(http, &info.sandbox, &account).await
}

async fn demo(http: &reqwest::Client, sandbox: &str, account: &Account) -> Result<Demo> {
    let token = vendors::token(http, sandbox, account).await?;
    Ok(Demo { token, account_id: account.id.to_string(), business_profile_id: account.business_profile_id.to_string() })
}

/// Returns the demo account of the last start if the database still has it, otherwise a new one.
async fn demo_account(state: &StateDir, http: &reqwest::Client, logins: &Logins, sandbox: &str) -> Result<Demo> {
    let account = match state.read::<Account>(DEMO_ACCOUNT) {
        Some(account) if database::has_account(&logins.owner, &account).await? => account,
        _ => {
            let account = database::create_account(&logins.owner, DEMO_CREDITS).await?;
            state.write(DEMO_ACCOUNT, &account)?;
            account
        }
    };
    demo(http, sandbox, &account).await
}

/// The credits that the signup grants.
const DEMO_CREDITS: u32 = 25;

async fn build(binaries: &Binaries, root: &Path, progress: Progress) -> Result<()> {
    let begun = std::time::Instant::now();
    let outcome = binaries.build(root, progress.is_enabled()).await;
    progress.done("build the functions and the sandbox", begun.elapsed(), outcome.is_ok());
    outcome
}

/// This machine's instruction set, as Lambda names it.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

fn parameters(options: &Options, sandbox: &Sandbox) -> BTreeMap<String, String> {
    let fixed = [
        ("Environment", "local"),
        ("Architecture", ARCHITECTURE),
        ("AllowedOrigin", "http://localhost:5173"),
        ("AlternateOrigin", "http://127.0.0.1:5173"),
        ("DashboardState", "ENABLED"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let live = options.live.as_ref().map(Live::parameters).unwrap_or_default();
    fixed.into_iter().chain(sandbox.parameters()).chain(live).chain(options.parameters.iter().cloned()).collect()
}

/// Returns the `stack.json` of a running stack.
pub fn info_of(state_dir: &Path) -> Option<StackInfo> {
    serde_json::from_slice(&std::fs::read(state_dir.join(INFO)).ok()?).ok()
}

/// Returns the names of the functions by their binaries, of a stack that may run in another process.
pub fn functions_of(state_dir: &Path) -> BTreeMap<String, String> {
    std::fs::read(state_dir.join(FUNCTIONS)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}
