//! The configuration of every endpoint for users.

use serde::Deserialize;

/// The environment variables of every endpoint for users.
#[derive(Debug, Clone, Deserialize)]
pub struct EndpointConfig {
    /// The Supabase project whose Auth signs the users' tokens.
    pub supabase_url: String,
    /// The table of the rate limits' counters.
    pub rate_limits_table: String,
}
