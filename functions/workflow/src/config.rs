//! What the tasks are configured with.

use oslira_vendors::OpenAiApi;
use serde::Deserialize;

/// What every task is configured with.
#[derive(Debug, Deserialize)]
pub struct TaskConfig {
    /// The table of running analyses.
    pub progress_table: String,
}

/// What `Fetch` is configured with.
#[derive(Debug, Deserialize)]
pub struct FetchConfig {
    /// What all tasks have in common.
    pub task: TaskConfig,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
    /// Apify's API.
    pub apify_base_url: String,
}

/// What `Analyze` is configured with.
#[derive(Debug, Deserialize)]
pub struct AnalyzeConfig {
    /// What all tasks have in common.
    pub task: TaskConfig,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
    /// `OpenAI`, or a server that is compatible with it.
    pub openai_base_url: String,
    /// The API to use there.
    pub openai_api: OpenAiApi,
    /// Anthropic's API.
    pub anthropic_base_url: String,
    /// A catalogue of models, as TOML, in place of the one that is compiled in.
    pub model_catalogue: Option<String>,
}

/// What `Save` is configured with.
#[derive(Debug, Deserialize)]
pub struct SaveConfig {
    /// What all tasks have in common.
    pub task: TaskConfig,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
}
