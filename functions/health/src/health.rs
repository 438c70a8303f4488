//! `GET /health`

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use oslira_aws::executions::Executions;
use oslira_aws::profiles::Profiles;
use oslira_aws::progress::ProgressTable;
use oslira_aws::queues::Queue;
use oslira_aws::secrets::Secrets;
use oslira_credential::age;
use oslira_db::UserDb;
use oslira_http::openapi::Api;
use oslira_http::{Problem, Reply, endpoint};
use oslira_lambda::Init;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

/// How long a dependency may take to respond before it counts as down.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long a view is reused: the endpoint is public, and each view costs eleven requests.
const LIFETIME: Duration = Duration::from_secs(5);

/// What the endpoint is configured with.
#[derive(Debug, Deserialize)]
pub struct HealthConfig {
    /// The environment, such as `production`.
    pub environment: String,
    /// The Supabase project.
    pub supabase_url: String,
    /// Apify's API.
    pub apify_base_url: String,
    /// OpenAI's API.
    pub openai_base_url: String,
    /// Anthropic's API.
    pub anthropic_base_url: String,
    /// The table of running analyses.
    pub progress_table: String,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
    /// The analysis state machine.
    pub state_machine_arn: String,
    /// The queue of bulk groups.
    pub bulk_groups_queue_url: String,
    /// The queue of Stripe's events.
    pub stripe_events_queue_url: String,
    /// Whether EventBridge invokes the schedules: `ENABLED` or `DISABLED`.
    pub schedule_state: ScheduleState,
}

/// The state of the schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ScheduleState {
    /// They are invoked.
    Enabled,
    /// They are not.
    Disabled,
}

/// The dependencies to probe, and the last view of them.
#[derive(Clone)]
pub struct Dependencies {
    last: Arc<Mutex<Option<(SystemTime, View)>>>,
    environment: String,
    db: UserDb,
    progress: ProgressTable,
    profiles: Profiles,
    executions: Executions,
    bulk_groups: Queue,
    stripe_events: Queue,
    secrets: Secrets,
    schedules: bool,
    http: reqwest::Client,
    supabase: String,
    apify: String,
    openai: String,
    anthropic: String,
}

impl Dependencies {
    /// Returns the dependencies that the configuration names.
    pub fn new(Init { config, aws, secrets }: Init<HealthConfig>) -> Self {
        Self {
            last: Arc::default(),
            environment: config.environment,
            db: UserDb::new(secrets.credential("database")),
            progress: ProgressTable::new(&aws, config.progress_table),
            profiles: Profiles::new(&aws, config.profile_bucket),
            executions: Executions::new(&aws, config.state_machine_arn),
            bulk_groups: Queue::new(&aws, config.bulk_groups_queue_url),
            stripe_events: Queue::new(&aws, config.stripe_events_queue_url),
            secrets,
            schedules: config.schedule_state == ScheduleState::Enabled,
            http: oslira_tls::http_client(),
            supabase: format!("{}/auth/v1/.well-known/jwks.json", config.supabase_url),
            apify: config.apify_base_url,
            openai: config.openai_base_url,
            anthropic: config.anthropic_base_url,
        }
    }

    /// Sends a request to `url`. Any response counts: without a key it is an error, but it comes from a server that is up.
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
    dependencies: DependencyStates,
}

/// The state of the service.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Status {
    /// Every dependency responds.
    Healthy,
    /// At least one dependency does not respond.
    Degraded,
}

/// The features of this version and its configuration, for clients that adapt to them.
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
    /// Whether EventBridge invokes the schedules. Where it does not, free plans are not renewed.
    schedules: bool,
}

/// The features of this version. Configuration decides about `schedules`.
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
    schedules: false,
};

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Dependencies")]
struct DependencyStates {
    postgresql: Dependency,
    dynamodb: Dependency,
    s3: Dependency,
    step_functions: Dependency,
    sqs_bulk_groups: Dependency,
    sqs_stripe_events: Dependency,
    secrets_manager: Dependency,
    supabase_auth: Dependency,
    apify: Dependency,
    openai: Dependency,
    anthropic: Dependency,
}

impl DependencyStates {
    fn all(&self) -> [&Dependency; 11] {
        [
            &self.postgresql,
            &self.dynamodb,
            &self.s3,
            &self.step_functions,
            &self.sqs_bulk_groups,
            &self.sqs_stripe_events,
            &self.secrets_manager,
            &self.supabase_auth,
            &self.apify,
            &self.openai,
            &self.anthropic,
        ]
    }
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
pub async fn health(dependencies: Dependencies) -> Result<Reply, Problem> {
    // The lock is held while the dependencies are probed, so that concurrent requests get the same view.
    let mut last = dependencies.last.lock().await;
    if let Some((at, view)) = &*last
        && age(*at) < LIFETIME
    {
        return Reply::ok(view);
    }
    let view = Box::pin(view(&dependencies)).await;
    let reply = Reply::ok(&view);
    *last = Some((SystemTime::now(), view));
    reply
}

/// Probes every dependency at once.
async fn view(probed: &Dependencies) -> View {
    let own = async {
        tokio::join!(
            probe("postgresql", probed.db.ping()),
            probe("dynamodb", probed.progress.ping()),
            probe("s3", probed.profiles.ping()),
            probe("step_functions", probed.executions.ping()),
            probe("sqs_bulk_groups", probed.bulk_groups.ping()),
            probe("sqs_stripe_events", probed.stripe_events.ping()),
            probe("secrets_manager", probed.secrets.ping("database")),
        )
    };
    let vendors = async {
        tokio::join!(
            probe("supabase_auth", probed.reach(&probed.supabase)),
            probe("apify", probed.reach(&probed.apify)),
            probe("openai", probed.reach(&probed.openai)),
            probe("anthropic", probed.reach(&probed.anthropic)),
        )
    };
    let ((postgresql, dynamodb, s3, step_functions, sqs_bulk_groups, sqs_stripe_events, secrets_manager), vendors) =
        tokio::join!(Box::pin(own), vendors);
    let (supabase_auth, apify, openai, anthropic) = vendors;
    let dependencies = DependencyStates {
        postgresql,
        dynamodb,
        s3,
        step_functions,
        sqs_bulk_groups,
        sqs_stripe_events,
        secrets_manager,
        supabase_auth,
        apify,
        openai,
        anthropic,
    };
    View {
        status: if dependencies.all().iter().all(|dependency| dependency.reachable) { Status::Healthy } else { Status::Degraded },
        service: "oslira",
        version: env!("CARGO_PKG_VERSION"),
        environment: probed.environment.clone(),
        features: Features { schedules: probed.schedules, ..FEATURES },
        dependencies,
    }
}

async fn probe<E: Display>(name: &'static str, request: impl Future<Output = Result<(), E>>) -> Dependency {
    let started = Instant::now();
    let response = tokio::time::timeout(TIMEOUT, request).await;
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let reachable = match response {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "dependency does not respond");
            false
        }
        Err(_) => {
            tracing::warn!(name, "dependency timed out");
            false
        }
    };
    Dependency { reachable, latency_ms }
}
