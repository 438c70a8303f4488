//! What tests work with: a stack, accounts, and short ways to do what a client does.

mod account;
mod case;
mod contract;
mod sandbox;
mod sql;
mod stripe;
mod workflow;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use local::{Options, Stack};

pub use account::{Account, Answer, Ended};
pub use case::{Case, cases};
pub use contract::Contract;
pub use serde_json::{Value, json};
pub use sql::{connect, migration_files};
pub use stripe::{Dice, Feed};

/// The stack, and the connections to look at it from outside.
pub struct World {
    pub stack: Stack,
    pub contract: Contract,
    pub http: reqwest::Client,
    pub db: sql::Pool,
    pub sfn: aws_sdk_sfn::Client,
    pub s3: aws_sdk_s3::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub sqs: aws_sdk_sqs::Client,
}

/// Numbers handles, so that no two tests meet in one.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl World {
    /// Builds the functions and starts a stack of its own on free ports.
    pub async fn start() -> anyhow::Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").to_owned();
        // Another folder allows two test runs side by side.
        let state = std::env::var_os("OSLIRA_TEST_STACK").map_or_else(|| root.join("target/test-stack"), PathBuf::from);
        let mut options = Options::new(&root, state);
        options.fixed_port = None;
        options.fresh = true;
        options.parameters = vec![("AiTimeoutSeconds".to_owned(), "3".to_owned())];
        // Tests invoke the schedules themselves; the emulator's clock would do so on the hour.
        options.parameters.push(("ScheduleState".to_owned(), "DISABLED".to_owned()));
        // Every function writes whatever it could ever write, for the search for secrets at the end.
        options.parameters.push(("LogLevel".to_owned(), "debug".to_owned()));
        let stack = Stack::start(options).await?;
        let config = stack.sdk_config();
        let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        Ok(Self {
            // A connection for each request: an idle one may be closed by the emulator at the moment when it is used again.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
            db: sql::Pool::new(stack.info().admin_database_url.clone()),
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

    pub async fn stop(self) {
        self.stack.stop().await;
    }

    /// A handle that no other test uses. The sandbox knows some beginnings: `private`, `missing`, `blocked`, `hostile`, …
    pub fn handle(&self, beginning: &str) -> String {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("{beginning}_{number}_{:04x}", std::process::id() & 0xffff)
    }

    /// The functions' log lines of level `ERROR` and `WARN` since `begun`, the last hundred.
    pub async fn errors_since(&self, begun: jiff::Timestamp) -> Vec<String> {
        let lines = local::logs::lines(&self.stack.sdk_config(), None, begun.as_millisecond()).await.unwrap_or_default();
        let bad = |text: &String| ["\"ERROR\"", "\"WARN\""].iter().any(|level| text.contains(level));
        let mut errors: Vec<String> = lines.into_iter().map(|line| line.text).filter(bad).collect();
        errors.split_off(errors.len().saturating_sub(100))
    }

    /// Log lines, of the functions (`logged`) and of the servers, that hold a secret, a token, or text of a profile or its judgement.
    pub async fn leaks(&self, logged: &[String]) -> Vec<String> {
        const SECRETS: [&str; 8] = [
            "apify_sandbox_token",
            "sk-sandbox-openai",
            "sk-ant-sandbox",
            "sk_test_",
            "whsec_",
            "sandbox-jwt-secret",
            "postgres://",
            "Bearer ",
        ];
        let mut lines = logged.to_vec();
        for name in ["emulator.log", "postgres.log", "sandbox.log"] {
            let text = std::fs::read(self.stack.state_dir().join(name)).unwrap_or_default();
            lines.extend(String::from_utf8_lossy(&text).lines().map(ToOwned::to_owned));
        }
        // Beginnings of everything that strangers and models wrote in this run.
        let written = "SELECT DISTINCT left(text, 24) FROM (SELECT bio AS text FROM leads UNION SELECT summary_text FROM analyses
                       UNION SELECT business_one_liner FROM business_profiles) t WHERE length(text) > 24";
        let texts = self.db.rows(written, &[]).await.into_iter().map(|row| row.get::<_, String>(0));
        // Thousands of texts in hundreds of thousands of lines: all at once.
        let told = AhoCorasick::new(SECRETS.map(ToOwned::to_owned).into_iter().chain(texts)).expect("a searcher");
        // A JSON Web Token begins so. In the middle of a word it is chance: Stripe's ids are random letters.
        let token =
            |line: &str| line.match_indices("eyJ").any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        lines.into_iter().filter(|line| token(line) || told.is_match(line)).take(20).collect()
    }

    /// Those of the functions' log lines that do not say which request they belong to, or, of a run's tasks and requests, to which run and
    /// account.
    pub fn orphaned_lines(&self, logged: &[String]) -> Vec<String> {
        let is_orphaned = |text: &&String| {
            // The emulator's own lines are no JSON, and metrics have no level.
            let Some(line) = serde_json::from_str::<Value>(text).ok().filter(|line| line["level"].is_string()) else { return false };
            // Ends between requests.
            if line["message"] == "database connection ended" {
                return false;
            }
            let has =
                |name: &str| [&line[name], &line["span"][name]].iter().any(|value| value.as_str().is_some_and(|text| !text.is_empty()));
            let message = line["message"].as_str().unwrap_or_default();
            // Tests invoke tasks with garbage too: whose it is nobody knows.
            let known = !line["error"].as_str().unwrap_or_default().starts_with("malformed input");
            let of_task = line["span"]["name"] == "task" && known;
            let of_run = message == "answered" && line["path"].as_str().is_some_and(|path| path.contains("/run_"));
            !has("requestId") || (of_task || of_run) && !has("run_id") || of_task && !has("account_id")
        };
        logged.iter().filter(is_orphaned).take(20).cloned().collect()
    }
}

/// Asks until there is an answer, less and less often: a hundred that wait must not keep busy what they wait for. Fails the test, with what was
/// waited for, when there is none in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, patience: Duration, mut ask: impl FnMut() -> F) -> T {
    let (started, mut pause) = (Instant::now(), Duration::from_millis(20));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < patience, "waited {patience:?} for {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
    }
}
