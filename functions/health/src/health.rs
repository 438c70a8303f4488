//! `GET /health`

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslira_aws::executions::Executions;
use oslira_aws::profiles::Profiles;
use oslira_aws::progress::ProgressTable;
use oslira_aws::secrets::Secrets;
use oslira_aws::{MissingVariable, sdk_config, variable};
use oslira_db::{DbError, UserDb};
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, endpoint};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

/// How long a dependency may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer serves everybody who asks: the endpoint is public, and each look costs eight requests.
const LIFETIME: Duration = Duration::from_secs(5);

/// What is asked, and the last answer.
#[derive(Clone)]
pub struct Health {
    last: Arc<Mutex<Option<(Instant, View)>>>,
    environment: String,
    db: UserDb,
    progress: ProgressTable,
    profiles: Profiles,
    executions: Executions,
    http: reqwest::Client,
    supabase: String,
    apify: String,
    openai: String,
    anthropic: String,
}

impl Health {
    /// Starts logging and reads the environment.
    ///
    /// # Errors
    /// Names the missing variable.
    pub fn from_env() -> Result<Self, MissingVariable> {
        oslira_telemetry::init();
        let config = sdk_config();
        let secrets = Secrets::from_env(&config)?;
        Ok(Self {
            last: Arc::default(),
            environment: variable("ENVIRONMENT")?,
            db: UserDb::new(secrets.fetcher("database", DbError::no_credential)),
            progress: ProgressTable::from_env(&config)?,
            profiles: Profiles::from_env(&config)?,
            executions: Executions::from_env(&config)?,
            http: oslira_tls::http_client(),
            supabase: format!("{}/auth/v1/.well-known/jwks.json", variable("SUPABASE_URL")?),
            apify: variable("APIFY_BASE_URL")?,
            openai: variable("OPENAI_BASE_URL")?,
            anthropic: variable("ANTHROPIC_BASE_URL")?,
        })
    }

    /// Whether something speaks HTTP there. Any answer counts: without a key it is an error, but a living one.
    async fn reach(&self, url: &str) -> Result<(), String> {
        self.http.get(url).send().await.map(drop).map_err(|error| error.without_url().to_string())
    }
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct View {
    status: Status,
    service: &'static str,
    version: &'static str,
    environment: String,
    features: Features,
    dependencies: Dependencies,
}

/// How things are.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Status {
    /// Every dependency answers.
    Healthy,
    /// One does not.
    Degraded,
}

/// What this version can do. Clients show and hide things by it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "flags are booleans")]
struct Features {
    workflows: bool,
    progress: bool,
    cancellation: bool,
    profile_cache: bool,
    prompt_caching: bool,
    provider_fallback: bool,
    rate_limits: bool,
    credit_ledger: bool,
    bulk_analysis: bool,
    profile_refresh: bool,
    billing: bool,
    schedules: bool,
}

const FEATURES: Features = Features {
    workflows: true,
    progress: true,
    cancellation: true,
    profile_cache: true,
    prompt_caching: true,
    provider_fallback: true,
    rate_limits: true,
    credit_ledger: true,
    bulk_analysis: true,
    profile_refresh: true,
    billing: true,
    schedules: true,
};

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Dependencies {
    postgresql: Dependency,
    dynamodb: Dependency,
    s3: Dependency,
    step_functions: Dependency,
    supabase_auth: Dependency,
    apify: Dependency,
    openai: Dependency,
    anthropic: Dependency,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Dependency {
    reachable: bool,
    latency_ms: u64,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.public(ROUTE).responds::<View>(200).end();
}

/// Returns the availability and latency of every dependency, measured within the last five seconds. Responds with 200 even if a dependency
/// is unavailable. Requires no authentication.
#[endpoint(GET, "/health")]
pub async fn health(health: Health) -> Result<Reply, Problem> {
    // Held while looking: those who ask meanwhile get the same answer.
    let mut last = health.last.lock().await;
    if let Some((at, view)) = &*last
        && at.elapsed() < LIFETIME
    {
        return Reply::ok(view);
    }
    let view = Box::pin(look(&health)).await;
    let reply = Reply::ok(&view);
    *last = Some((Instant::now(), view));
    reply
}

/// Asks every dependency at once.
async fn look(health: &Health) -> View {
    let (postgresql, dynamodb, s3, step_functions, supabase_auth, apify, openai, anthropic) = tokio::join!(
        ask("postgresql", health.db.ping()),
        ask("dynamodb", health.progress.ping()),
        ask("s3", health.profiles.ping()),
        ask("step_functions", health.executions.ping()),
        ask("supabase_auth", health.reach(&health.supabase)),
        ask("apify", health.reach(&health.apify)),
        ask("openai", health.reach(&health.openai)),
        ask("anthropic", health.reach(&health.anthropic)),
    );
    let dependencies = Dependencies { postgresql, dynamodb, s3, step_functions, supabase_auth, apify, openai, anthropic };
    let all = [
        &dependencies.postgresql,
        &dependencies.dynamodb,
        &dependencies.s3,
        &dependencies.step_functions,
        &dependencies.supabase_auth,
        &dependencies.apify,
        &dependencies.openai,
        &dependencies.anthropic,
    ];
    View {
        status: if all.iter().all(|dependency| dependency.reachable) { Status::Healthy } else { Status::Degraded },
        service: "oslira",
        version: env!("CARGO_PKG_VERSION"),
        environment: health.environment.clone(),
        features: FEATURES,
        dependencies,
    }
}

async fn ask<E: Display>(name: &'static str, question: impl Future<Output = Result<(), E>>) -> Dependency {
    let started = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, question).await;
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let reachable = match answer {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "dependency does not answer");
            false
        }
        Err(_) => {
            tracing::warn!(name, "dependency takes too long");
            false
        }
    };
    Dependency { reachable, latency_ms }
}
