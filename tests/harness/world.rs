//! The stack that all tests share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use local::{Demo, Options, Stack};

use super::database::Pool;
use super::{Account, Contract};

/// The stack and the clients that tests use.
pub struct World {
    pub stack: Stack,
    pub contract: Contract,
    pub http: reqwest::Client,
    pub db: Pool,
    pub sfn: aws_sdk_sfn::Client,
    pub s3: aws_sdk_s3::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub sqs: aws_sdk_sqs::Client,
}

/// The number of the next handle, so that no two tests share one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The compiled-in catalogue of models with timeouts of three seconds, short enough for a parameter.
fn impatient_catalogue() -> String {
    let lines = include_str!("../../shared/vendors/models.toml").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines = lines.map(|line| if line.starts_with("timeout_seconds") { "timeout_seconds = 3" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

impl World {
    /// Builds the functions and starts a stack of its own on free ports.
    pub async fn start() -> anyhow::Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_owned();
        // Another folder allows two runs of the suite at the same time.
        let state = std::env::var_os("OSLIRA_TEST_STACK").map_or_else(|| root.join("target/test-stack"), PathBuf::from);
        let mut options = Options::new(&root, state);
        options.fixed_port = None;
        options.fresh = true;
        options.parameters = vec![("ModelCatalogue".to_owned(), impatient_catalogue())];
        // Tests invoke the schedules. The emulator's clock would also invoke them on the hour.
        options.parameters.push(("ScheduleState".to_owned(), "DISABLED".to_owned()));
        // Functions log at the most detailed level, for the search for secrets at the end.
        options.parameters.push(("LogLevel".to_owned(), "debug".to_owned()));
        let stack = Stack::start(options).await?;
        let config = stack.sdk_config();
        let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        Ok(Self {
            // One connection for each request, because the emulator can close an idle one at the moment of its next use.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
            db: Pool::new(stack.info().admin_database_url.clone()),
            sfn: aws_sdk_sfn::Client::new(&config),
            s3,
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            contract: Contract::new(),
            stack,
        })
    }

    /// Stops the stack.
    pub async fn stop(self) {
        self.stack.stop().await;
    }

    /// Returns a handle that no other test uses. Some beginnings select a special profile: `private`, `missing`, `blocked`, `hostile`, …
    pub fn handle(&self, beginning: &str) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{beginning}_{number}_{:04x}", std::process::id() & 0xffff)
    }

    /// Returns `count` handles that no other test uses.
    pub fn handles(&self, beginning: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.handle(beginning)).collect()
    }

    /// Creates an account with `credits` and a business profile.
    pub async fn account(self: &Arc<Self>, credits: u32) -> Account {
        let Demo { token, account_id, business_profile_id } = self.stack.create_account(credits).await.expect("an account");
        Account { world: self.clone(), token, id: account_id, business_profile_id }
    }
}
