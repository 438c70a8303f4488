//! What the functions of this feature are configured with.

use oslira_http::EndpointConfig;
use serde::Deserialize;

/// What `POST /api/leads/analyze/bulk` is configured with.
#[derive(Debug, Deserialize)]
pub struct StartConfig {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// The queue of bulk groups.
    pub bulk_groups_queue_url: String,
}

/// What `POST /api/leads/analyze/bulk/{batchId}/cancel` is configured with.
#[derive(Debug, Deserialize)]
pub struct CancelConfig {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// The table of running analyses.
    pub progress_table: String,
    /// The analysis state machine.
    pub state_machine_arn: String,
}

/// What the consumer of bulk groups is configured with.
#[derive(Debug, Deserialize)]
pub struct GroupsConfig {
    /// Apify's API.
    pub apify_base_url: String,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
    /// The analysis state machine.
    pub state_machine_arn: String,
    /// The queue that the groups come from.
    pub bulk_groups_queue_url: String,
}
