//! Live mode: real vendors instead of their stand-ins, each with a key from the developer's environment.
//!
//! Keys are stored only in the emulator's Secrets Manager, in memory: not in a file, an argument or the environment of a process.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use oslira_credential::{Credential, CredentialError};
use oslira_vendors::{Endpoint, Endpoints, ModelSecret, ModelSecrets};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The variables with credentials. No process of the stack inherits them.
pub(crate) const CREDENTIALS: [&str; 5] = ["APIFY_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"];

/// A real vendor.
#[derive(Debug, Clone)]
struct Real {
    key: SecretString,
    base_url: String,
}

/// The real vendors. Vendors without a key stay stand-ins.
#[derive(Debug, Clone, Default)]
pub struct Live {
    apify: Option<Real>,
    openai: Option<Real>,
    anthropic: Option<Real>,
    stripe: Option<Real>,
    webhook_secret: Option<SecretString>,
    openai_api: Option<String>,
    catalogue: Option<String>,
}

impl Live {
    /// Reads keys and addresses through `variable`, which reads the environment except in tests.
    ///
    /// # Errors
    /// Fails if there is no key, Stripe's key is not one of its test mode, or a value is invalid. The message contains no key.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let given = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let real = |key: &str, address: &str, usual: &str| -> Result<Option<Real>> {
            let Some(key) = given(key) else { return Ok(None) };
            let base_url = given(address).unwrap_or_else(|| usual.to_owned()).trim_end_matches('/').to_owned();
            ensure!(is_allowed(&base_url), "{address} must be an https address, or http://127.0.0.1:… for a server on this machine");
            Ok(Some(Real { key: key.into(), base_url }))
        };
        let live = Self {
            apify: real("APIFY_TOKEN", "APIFY_BASE_URL", "https://api.apify.com")?,
            openai: real("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1")?,
            anthropic: real("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com")?,
            stripe: real("STRIPE_API_KEY", "STRIPE_BASE_URL", "https://api.stripe.com")?,
            webhook_secret: given("STRIPE_WEBHOOK_SECRET").map(SecretString::from),
            openai_api: given("OPENAI_API"),
            catalogue: given("MODEL_CATALOGUE"),
        };
        if [&live.apify, &live.openai, &live.anthropic, &live.stripe].iter().all(|vendor| vendor.is_none()) {
            bail!("nothing would be live: set at least one of APIFY_TOKEN, OPENAI_API_KEY, ANTHROPIC_API_KEY and STRIPE_API_KEY");
        }
        let is_test_key = |key: &str| key.starts_with("sk_test_") || key.starts_with("rk_test_");
        if live.stripe.as_ref().is_some_and(|stripe| !is_test_key(stripe.key.expose_secret())) {
            bail!("STRIPE_API_KEY is not a key of Stripe's test mode (sk_test_… or rk_test_…); a local stack moves no real money");
        }
        if live.openai_api.as_deref().is_some_and(|api| !["responses", "chat"].contains(&api)) {
            bail!("OPENAI_API must be `responses` or `chat`");
        }
        if let Some(text) = &live.catalogue {
            oslira_vendors::Catalogue::parse(text).context("MODEL_CATALOGUE")?;
        }
        Ok(live)
    }

    /// Returns whether Stripe is real and delivers its events itself.
    pub(crate) fn has_stripe(&self) -> bool {
        self.stripe.is_some()
    }

    /// Returns the template's parameters that name the real vendors.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let addresses = [
            ("ApifyBaseUrl", &self.apify),
            ("OpenAiBaseUrl", &self.openai),
            ("AnthropicBaseUrl", &self.anthropic),
            ("StripeBaseUrl", &self.stripe),
        ];
        let addresses = addresses.into_iter().filter_map(|(name, vendor)| Some((name.to_owned(), vendor.as_ref()?.base_url.clone())));
        let texts = [("OpenAiApi", &self.openai_api), ("ModelCatalogue", &self.catalogue)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
        addresses.chain(texts).collect()
    }

    /// Returns addresses and keys of the model providers, to use them without a stack. A provider without a key is not used.
    ///
    /// # Errors
    /// Fails if there is no key of a model provider.
    pub fn models(&self) -> Result<(Endpoints, ModelSecrets)> {
        ensure!(self.openai.is_some() || self.anthropic.is_some(), "set OPENAI_API_KEY or ANTHROPIC_API_KEY");
        let endpoint = |vendor: &Option<Real>| Endpoint::new(vendor.as_ref().map(|vendor| vendor.base_url.as_str()).unwrap_or_default());
        let credential = |vendor: &Option<Real>, name: &'static str| match vendor {
            Some(vendor) => Credential::fixed(ModelSecret::from(vendor.key.clone())),
            None => Credential::new(move || std::future::ready(Err(CredentialError::Missing(name.to_owned())))),
        };
        let openai_api = self.openai_api.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let endpoints = Endpoints { openai: endpoint(&self.openai), openai_api, anthropic: endpoint(&self.anthropic) };
        let secrets = ModelSecrets {
            openai: credential(&self.openai, "OPENAI_API_KEY"),
            anthropic: credential(&self.anthropic, "ANTHROPIC_API_KEY"),
        };
        Ok((endpoints, secrets))
    }

    /// Returns the content of a secret, which is `standin` for a stand-in, or `None` to omit it. If one model provider is real, the other one is
    /// called only with a key of its own: a live run never uses answers of a stand-in.
    pub(crate) fn secret(&self, name: &str, standin: Value) -> Option<Value> {
        let key = |vendor: &Option<Real>, field: &str| vendor.as_ref().map(|vendor| json!({ field: vendor.key.expose_secret() }));
        let has_models = self.openai.is_some() || self.anthropic.is_some();
        match name {
            "apify" => Some(key(&self.apify, "token").unwrap_or(standin)),
            "openai" if has_models => key(&self.openai, "api_key"),
            "anthropic" if has_models => key(&self.anthropic, "api_key"),
            "stripe" => Some(key(&self.stripe, "api_key").unwrap_or(standin)),
            "stripe-webhook" if self.stripe.is_some() => {
                let secrets: Vec<&str> = self.webhook_secret.iter().map(ExposeSecret::expose_secret).collect();
                Some(json!({ "secrets": secrets }))
            }
            _ => Some(standin),
        }
    }
}

/// Returns whether a parameter of the template accepts the address.
fn is_allowed(url: &str) -> bool {
    let rest = url.strip_prefix("http://127.0.0.1").filter(|rest| rest.is_empty() || rest.starts_with([':', '/']));
    !url.contains(char::is_whitespace) && (rest.is_some() || url.strip_prefix("https://").is_some_and(|host| !host.is_empty()))
}

/// Writes one line for each vendor, with its address if it is real.
impl fmt::Display for Live {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_models = self.openai.is_some() || self.anthropic.is_some();
        let vendors = [
            ("Apify", &self.apify, false),
            ("OpenAI", &self.openai, has_models),
            ("Anthropic", &self.anthropic, has_models),
            ("Stripe", &self.stripe, false),
        ];
        for (name, vendor, is_off) in vendors {
            match vendor {
                Some(vendor) => writeln!(to, "  {name:<10} live at {}", vendor.base_url)?,
                None if is_off => writeln!(to, "  {name:<10} not called: no key")?,
                None => writeln!(to, "  {name:<10} sandbox")?,
            }
        }
        if self.stripe.is_some() && self.webhook_secret.is_none() {
            writeln!(to, "  Stripe's events are refused until STRIPE_WEBHOOK_SECRET is set (`stripe listen` prints it)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Live> {
        Live::read(|name| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned()))
    }

    fn fault(variables: &[(&str, &str)]) -> String {
        format!("{:#}", read(variables).unwrap_err())
    }

    #[test]
    fn without_keys_it_says_which_there_could_be() {
        assert!(fault(&[("APIFY_TOKEN", " ")]).contains("set at least one of APIFY_TOKEN, OPENAI_API_KEY"));
    }

    #[test]
    fn keys_of_real_money_are_refused_and_never_repeated() {
        for key in ["sk_live_abc", "rk_live_abc", "pk_test_abc"] {
            let fault = fault(&[("STRIPE_API_KEY", key)]);
            assert!(fault.contains("test mode") && !fault.contains("abc"), "{fault}");
        }
        read(&[("STRIPE_API_KEY", "rk_test_abc")]).unwrap();
    }

    #[test]
    fn addresses_are_https_or_on_this_machine() {
        for url in ["http://example.com/v1", "http://127.0.0.1.example.com", "http://localhost:11434/v1", "https://"] {
            assert!(fault(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", url)]).contains("OPENAI_BASE_URL"), "{url}");
        }
        let live = read(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/"), ("OPENAI_API", "chat")]).unwrap();
        let expected = [("OpenAiBaseUrl", "http://127.0.0.1:11434/v1"), ("OpenAiApi", "chat")];
        assert_eq!(live.parameters(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        // The timeouts of models are in their catalogue.
        let slow = include_str!("../../../shared/vendors/models.toml").replace("timeout_seconds = 30", "timeout_seconds = 280");
        let live = read(&[("OPENAI_API_KEY", "k"), ("MODEL_CATALOGUE", &slow)]).unwrap();
        let catalogue = live.parameters().into_iter().find(|(name, _)| name == "ModelCatalogue").unwrap().1;
        assert!(catalogue.contains("timeout_seconds = 280"));
        assert!(fault(&[("OPENAI_API_KEY", "k"), ("OPENAI_API", "soap")]).contains("OPENAI_API"));
        assert!(fault(&[("OPENAI_API_KEY", "k"), ("MODEL_CATALOGUE", "models = 1")]).contains("MODEL_CATALOGUE"));
    }

    #[test]
    fn a_real_model_has_no_standin_beside_it() {
        let live = read(&[("ANTHROPIC_API_KEY", "sk-ant-real")]).unwrap();
        let standin = || json!({"api_key": "standin"});
        assert_eq!(live.secret("openai", standin()), None);
        assert_eq!(live.secret("anthropic", standin()), Some(json!({"api_key": "sk-ant-real"})));
        assert_eq!(live.secret("apify", standin()), Some(standin()));
        assert_eq!(read(&[("APIFY_TOKEN", "real")]).unwrap().secret("openai", standin()), Some(standin()));
    }

    #[test]
    fn models_are_used_without_a_stack_only_with_a_key() {
        let fault = read(&[("APIFY_TOKEN", "real")]).unwrap().models().unwrap_err().to_string();
        assert_eq!(fault, "set OPENAI_API_KEY or ANTHROPIC_API_KEY");
        let live = read(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/"), ("OPENAI_API", "chat")]).unwrap();
        let (endpoints, _) = live.models().unwrap();
        assert_eq!(
            (endpoints.openai.base_url.as_str(), endpoints.openai_api),
            ("http://127.0.0.1:11434/v1", oslira_vendors::OpenAiApi::Chat)
        );
    }

    #[test]
    fn its_descriptions_contain_no_key() {
        let live =
            read(&[("APIFY_TOKEN", "apify-real"), ("STRIPE_API_KEY", "sk_test_real"), ("STRIPE_WEBHOOK_SECRET", "whsec_real")]).unwrap();
        let text = format!("{live}{live:?}");
        assert!(text.contains("Apify      live at https://api.apify.com") && text.contains("OpenAI     sandbox"), "{text}");
        assert!(!text.contains("real\""), "{text}");
        for key in ["apify-real", "sk_test_real", "whsec_real"] {
            assert!(!text.contains(key), "{text}");
        }
    }
}
