//! State that all stand-ins share: credentials, the call log, faults and the handles scraped so far.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;

use crate::calls::{CallLog, Vendor};
use crate::faults::Faults;

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

/// New credentials. An absent one stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredentials {
    apify: Option<String>,
    openai: Option<String>,
    anthropic: Option<String>,
    stripe: Option<String>,
}

/// State that all stand-ins share. It knows none of them.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) calls: Arc<CallLog>,
    pub(crate) faults: Faults,
    credentials: RwLock<Credentials>,
    /// Handles that were scraped. A model call that names one of them is recorded as being about it.
    handles: RwLock<HashSet<String>>,
}

impl Shared {
    /// Creates the state with these credentials.
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials: RwLock::new(credentials), ..Self::default() }
    }

    /// Returns whether this is the vendor's current credential.
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

    /// Replaces credentials. The old ones are rejected from now on.
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

    /// Adds handles to those that were scraped.
    pub(crate) fn remember(&self, handles: &[String]) {
        let mut known = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(handles.iter().map(|handle| handle.trim_start_matches('@').to_ascii_lowercase()));
    }

    /// Returns the handles that a text names, in order: the scraped ones, or else the first `@handle`.
    pub(crate) fn handles_in(&self, text: &str) -> Vec<String> {
        let known = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
        let mut found: Vec<String> = Vec::new();
        let is_known = |word: &str| (1..=30).contains(&word.len()) && known.contains(word);
        let text_lower = text.to_ascii_lowercase();
        for word in text_lower.split(|letter| !is_part(letter)).filter(|_| !known.is_empty()) {
            let word = word.trim_matches('.');
            // The letter of an escaped line break sticks to the word after it (`\nmaya`), so the word is also tried without it.
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
    fn handles_are_found_in_a_prompt() {
        let shared = Shared::default();
        assert_eq!(shared.handles_in("write to @maya.moves, please"), ["maya.moves"]);
        shared.remember(&["Maya.Moves".to_owned(), "other".to_owned()]);
        assert_eq!(shared.handles_in(r#"{"input":"Profile\nmaya.moves: likes @x"}"#), ["maya.moves"]);
        assert!(shared.handles_in("nothing here").is_empty());
    }

    #[test]
    fn a_rotated_key_replaces_the_old_one() {
        let shared = Shared::default();
        shared.rotate(NewCredentials { apify: None, openai: Some("new".to_owned()), anthropic: None, stripe: None });
        assert!(shared.accepts(Vendor::Openai, "new") && !shared.accepts(Vendor::Openai, "sk-sandbox-openai"));
        assert!(shared.accepts(Vendor::Apify, "apify_sandbox_token"));
    }
}
