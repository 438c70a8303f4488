//! What all stand-ins share.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;

use crate::apify::Runs;
use crate::calls::{CallLog, Vendor};
use crate::faults::Faults;
use crate::models::PromptCache;
use crate::stripe::Stripe;
use crate::tokens::KeyRing;

/// The credentials that the stand-ins accept.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Apify's API token.
    pub apify: String,
    /// OpenAI's API key.
    pub openai: String,
    /// Anthropic's API key.
    pub anthropic: String,
    /// Stripe's secret API key.
    pub stripe: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            apify: "apify_sandbox_token".to_owned(),
            openai: "sk-sandbox-openai".to_owned(),
            anthropic: "sk-ant-sandbox".to_owned(),
            stripe: "sk_test_sandbox".to_owned(),
        }
    }
}

/// New credentials; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredentials {
    apify: Option<String>,
    openai: Option<String>,
    anthropic: Option<String>,
    stripe: Option<String>,
}

/// One running sandbox.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) base_url: String,
    pub(crate) calls: Arc<CallLog>,
    pub(crate) faults: Faults,
    pub(crate) runs: Runs,
    pub(crate) keys: KeyRing,
    pub(crate) prompts: PromptCache,
    pub(crate) stripe: Arc<Stripe>,
    credentials: RwLock<Credentials>,
    /// Handles that were scraped, by which a model call is recognised as being about one of them.
    handles: RwLock<HashSet<String>>,
}

impl App {
    pub(crate) fn new(base_url: String, credentials: Credentials, jwt_secret: String) -> anyhow::Result<Self> {
        Ok(Self {
            stripe: Stripe::new(format!("{base_url}/stripe"))?,
            keys: KeyRing::new(format!("{base_url}/supabase/auth/v1"), jwt_secret)?,
            base_url,
            calls: Arc::default(),
            faults: Faults::default(),
            runs: Runs::default(),
            prompts: PromptCache::default(),
            credentials: RwLock::new(credentials),
            handles: RwLock::default(),
        })
    }

    /// Is this the vendor's current credential?
    pub(crate) fn accepts(&self, vendor: Vendor, credential: &str) -> bool {
        let credentials = self.credentials.read().unwrap_or_else(PoisonError::into_inner);
        match vendor {
            Vendor::Apify => credentials.apify == credential,
            Vendor::Openai => credentials.openai == credential,
            Vendor::Anthropic => credentials.anthropic == credential,
            Vendor::Stripe => credentials.stripe == credential,
            Vendor::Sentry => credential == "sandbox",
            Vendor::Supabase => true,
        }
    }

    /// Replaces credentials; the old ones are refused from now on.
    pub(crate) fn rotate(&self, new: NewCredentials) {
        let credentials = &mut *self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        for (current, new) in [
            (&mut credentials.apify, new.apify),
            (&mut credentials.openai, new.openai),
            (&mut credentials.anthropic, new.anthropic),
            (&mut credentials.stripe, new.stripe),
        ] {
            if let Some(new) = new {
                *current = new;
            }
        }
    }

    /// Remembers handles that were scraped.
    pub(crate) fn remember(&self, handles: &[String]) {
        let mut known = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(handles.iter().map(|handle| handle.trim_start_matches('@').to_ascii_lowercase()));
    }

    /// The handles that a text names, in order: scraped ones, or else the first `@handle`.
    pub(crate) fn handles_in(&self, text: &str) -> Vec<String> {
        let known = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
        let mut found: Vec<String> = Vec::new();
        let is_known = |word: &str| (1..=30).contains(&word.len()) && known.contains(word);
        let text_lower = text.to_ascii_lowercase();
        for word in text_lower.split(|letter| !is_part(letter)).filter(|_| !known.is_empty()) {
            let word = word.trim_matches('.');
            // An escaped line break before a word glues its letter on: `\nmaya`. Both readings are tried.
            let readings = [Some(word), word.strip_prefix('n'), word.strip_prefix('t')];
            if let Some(handle) = readings.into_iter().flatten().find(|word| is_known(word))
                && !found.iter().any(|other| other == handle)
            {
                found.push(handle.to_owned());
            }
        }
        if found.is_empty() {
            let mentioned =
                text.split('@').skip(1).map(|rest| rest.split(|letter| !is_part(letter)).next().unwrap_or_default().trim_end_matches('.'));
            found.extend(mentioned.filter(|handle| (1..=30).contains(&handle.len())).map(str::to_ascii_lowercase).take(1));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_names_its_handle() {
        let app = App::new("http://127.0.0.1:1".to_owned(), Credentials::default(), "secret".to_owned()).unwrap();
        assert_eq!(app.handles_in("write to @maya.moves, please"), ["maya.moves"]);
        app.remember(&["Maya.Moves".to_owned(), "other".to_owned()]);
        assert_eq!(app.handles_in(r#"{"input":"Profile\nmaya.moves: likes @x"}"#), ["maya.moves"]);
        assert!(app.handles_in("nothing here").is_empty());
    }

    #[test]
    fn a_rotated_key_replaces_the_old_one() {
        let app = App::new("http://127.0.0.1:1".to_owned(), Credentials::default(), "secret".to_owned()).unwrap();
        app.rotate(NewCredentials { apify: None, openai: Some("new".to_owned()), anthropic: None, stripe: None });
        assert!(app.accepts(Vendor::Openai, "new") && !app.accepts(Vendor::Openai, "sk-sandbox-openai"));
        assert!(app.accepts(Vendor::Apify, "apify_sandbox_token"));
    }
}
