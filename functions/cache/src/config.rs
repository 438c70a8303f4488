//! What the functions of this feature are configured with.

use oslira_http::EndpointConfig;
use serde::Deserialize;

/// What `POST /api/leads/{leadId}/refresh-check` is configured with.
#[derive(Debug, Deserialize)]
pub struct RefreshCheckConfig {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// The function that scrapes for it.
    pub refresh_profile_function: String,
}

/// What the function that scrapes for `refresh-check` is configured with.
#[derive(Debug, Deserialize)]
pub struct RefreshProfileConfig {
    /// Apify's API.
    pub apify_base_url: String,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
}

/// What `POST /api/leads/{leadId}/force-refresh` is configured with.
#[derive(Debug, Deserialize)]
pub struct ForceRefreshConfig {
    /// Authentication and limits.
    pub endpoint: EndpointConfig,
    /// The bucket of the profile cache.
    pub profile_bucket: String,
}
