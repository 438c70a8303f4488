//! The stand-ins of the third parties, and the credentials that they accept.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_config::SdkConfig;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::database::{Account, Logins};
use crate::live::Live;
use crate::processes::{Mark, Service};
use crate::state::StateDir;

/// The secret with which the sandbox signs Stripe's events.
const WEBHOOK_SECRET: &str = "whsec_sandbox";

const TOKEN_LIFETIME: Duration = Duration::from_hours(30 * 24);

pub(crate) struct Sandbox {
    /// Held for its end.
    _service: Service,
    pub(crate) base_url: String,
}

impl Sandbox {
    /// Starts the sandbox, which chooses a free port.
    pub(crate) async fn start(binary: &Path, state: &StateDir, mark: &Mark) -> Result<Self> {
        let port_file = state.join("sandbox.port");
        state.remove("sandbox.port");
        let mut command = Command::new(binary);
        command.args(["--port", "0", "--port-file"]).arg(&port_file);
        let log = state.join("sandbox.log");
        let mut service = Service::start(command, mark, &log, Signal::SIGKILL)?;
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            // The file may exist before its content.
            if let Some(port) = std::fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse::<u16>().ok()) {
                return Ok(Self { _service: service, base_url: format!("http://127.0.0.1:{port}") });
            }
            if service.ended().is_some() || Instant::now() > patience {
                bail!("the sandbox does not start: see {}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the template's parameters that name the sandbox.
    pub(crate) fn parameters(&self) -> [(String, String); 5] {
        let base = &self.base_url;
        [
            ("SupabaseUrl", "supabase"),
            ("ApifyBaseUrl", "apify"),
            ("OpenAiBaseUrl", "openai/v1"),
            ("AnthropicBaseUrl", "anthropic"),
            ("StripeBaseUrl", "stripe"),
        ]
        .map(|(name, path)| (name.to_owned(), format!("{base}/{path}")))
    }

    /// Sets the webhook endpoint of Stripe's events.
    pub(crate) async fn deliver_events_to(&self, http: &reqwest::Client, api: &str) -> Result<()> {
        let endpoint = json!({"url": format!("{api}/api/webhooks/stripe"), "secret": WEBHOOK_SECRET});
        let answer = http.post(format!("{}/_control/stripe/endpoint", self.base_url)).json(&endpoint).send().await?;
        answer.error_for_status().context("the sandbox rejects the webhook endpoint")?;
        Ok(())
    }
}

/// Returns a token of the account's owner, as Supabase's Auth service signs it.
pub(crate) async fn token(http: &reqwest::Client, sandbox: &str, account: &Account) -> Result<String> {
    let request = json!({"sub": account.user_id, "email": account.email, "expires_in": TOKEN_LIFETIME.as_secs()});
    let answer = http
        .post(format!("{sandbox}/_control/token"))
        .json(&request)
        .send()
        .await?
        .error_for_status()
        .context("the sandbox rejects the token's request")?;
    let answer: Value = answer.json().await?;
    Ok(answer["access_token"].as_str().context("the sandbox's response contains no token")?.to_owned())
}

/// Writes the secrets that the functions read. Those of real vendors get real credentials.
pub(crate) async fn write_secrets(config: &SdkConfig, logins: &Logins, sandbox: &Sandbox, live: Option<&Live>) -> Result<()> {
    let secrets = aws_sdk_secretsmanager::Client::new(config);
    let values = [
        ("database-owner", json!({"url": logins.owner})),
        ("database", json!({"url": logins.user})),
        ("database-admin", json!({"url": logins.admin})),
        ("supabase-auth", json!({"jwt_secret": "sandbox-jwt-secret-at-least-32-characters-long"})),
        ("apify", json!({"token": "apify_sandbox_token"})),
        ("openai", json!({"api_key": "sk-sandbox-openai"})),
        ("anthropic", json!({"api_key": "sk-ant-sandbox"})),
        ("sentry", json!({"dsn": format!("{}/sentry/7", sandbox.base_url.replace("//", "//sandbox@"))})),
        ("stripe", json!({"api_key": "sk_test_sandbox"})),
        ("stripe-webhook", json!({"secrets": [WEBHOOK_SECRET]})),
    ];
    for (name, value) in values {
        let Some(value) = live.map_or_else(|| Some(value.clone()), |live| live.secret(name, value.clone())) else { continue };
        let name = format!("oslira/local/{name}");
        secrets
            .create_secret()
            .name(&name)
            .secret_string(value.to_string())
            .send()
            .await
            .with_context(|| format!("cannot write the secret {name}"))?;
    }
    Ok(())
}
