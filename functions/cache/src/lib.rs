//! The profile cache for users: check whether a lead's profile has changed, invalidate its entry, and read the cache's statistics.

mod cache_statistics;
mod config;
mod force_refresh;
mod lead;
mod refresh_check;
mod refresh_profile;

pub use cache_statistics::cache_statistics;
pub use config::{ForceRefreshConfig, RefreshCheckConfig, RefreshProfileConfig};
pub use force_refresh::force_refresh;
pub use refresh_check::{REFRESH_TIMEOUT, refresh_check};
pub use refresh_profile::{ProfileRefresher, refresh_profile};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Profile cache", "The cache of profiles: refresh checks, forced refreshes and statistics.");
    refresh_check::describe(api);
    force_refresh::describe(api);
    cache_statistics::describe(api);
}
