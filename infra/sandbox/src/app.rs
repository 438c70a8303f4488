//! One running sandbox: the state of every stand-in.

use std::sync::Arc;

use crate::apify::Apify;
use crate::models::Models;
use crate::shared::{Credentials, Shared};
use crate::stripe::Stripe;
use crate::supabase::Supabase;

/// The state of every stand-in. OpenAI and Anthropic are one state, [`Models`]; Sentry has none beyond what all share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    pub(crate) apify: Arc<Apify>,
    pub(crate) models: Arc<Models>,
    pub(crate) supabase: Arc<Supabase>,
    pub(crate) stripe: Arc<Stripe>,
}

impl App {
    /// Creates a sandbox that clients reach at `base_url`.
    ///
    /// # Errors
    /// Fails when no signing keys or no HTTP client can be created.
    pub(crate) fn new(base_url: &str, credentials: Credentials, jwt_secret: String) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::new(credentials));
        Ok(Self {
            apify: Arc::new(Apify::new(Arc::clone(&shared), format!("{base_url}/apify"))),
            models: Arc::new(Models::new(Arc::clone(&shared))),
            supabase: Arc::new(Supabase::new(Arc::clone(&shared), &format!("{base_url}/supabase"), jwt_secret)?),
            stripe: Stripe::new(Arc::clone(&shared), format!("{base_url}/stripe"))?,
            shared,
        })
    }
}
