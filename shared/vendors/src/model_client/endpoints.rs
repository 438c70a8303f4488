//! Where the providers are, and the credentials for them.

use oslira_credential::Credential;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use strum::EnumString;

use crate::models::Provider;

/// The address of a provider.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `OpenAI`: up to and including `/v1`. Anthropic: without it.
    pub base_url: String,
}

impl Endpoint {
    /// Makes an endpoint.
    pub fn new(base_url: impl Into<String>) -> Self {
        let base_url: String = base_url.into();
        Self { base_url: base_url.trim_end_matches('/').to_owned() }
    }
}

/// The API that is used at the address of `OpenAI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownApi, parse_err_fn = unknown_api)]
pub enum OpenAiApi {
    /// The Responses API.
    #[default]
    Responses,
    /// The Chat Completions API, which is the only one of most compatible servers.
    Chat,
}

/// The name of an API that the client does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown OpenAI API `{0}`: expected `responses` or `chat`")]
pub struct UnknownApi(String);

fn unknown_api(name: &str) -> UnknownApi {
    UnknownApi(name.to_owned())
}

/// The addresses of the providers.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// `OpenAI`, or a server that is compatible with it.
    pub openai: Endpoint,
    /// The API to use there.
    pub openai_api: OpenAiApi,
    /// Anthropic's Messages API.
    pub anthropic: Endpoint,
}

/// The secrets `openai` and `anthropic`.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelSecret {
    /// The API key.
    pub api_key: SecretString,
    /// Further headers, such as the key of a gateway in between.
    #[serde(default, deserialize_with = "headers")]
    pub headers: HeaderMap,
}

impl From<SecretString> for ModelSecret {
    /// A key without further headers.
    fn from(api_key: SecretString) -> Self {
        Self { api_key, headers: HeaderMap::new() }
    }
}

/// Reads headers from an object of strings. Their values are marked as sensitive, so that no debug output shows them.
fn headers<'de, D: serde::Deserializer<'de>>(source: D) -> Result<HeaderMap, D::Error> {
    use serde::de::Error;
    let named = std::collections::BTreeMap::<String, String>::deserialize(source)?;
    let header = |(name, value): (String, String)| {
        let name = name.parse::<HeaderName>().map_err(|_| D::Error::custom("the name of a header is malformed"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| D::Error::custom("the value of a header is malformed"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    named.into_iter().map(header).collect()
}

/// The providers' credentials. A provider whose secret does not exist is not used.
#[derive(Debug, Clone)]
pub struct ModelSecrets {
    /// `OpenAI`'s, or that of the server in its place.
    pub openai: Credential<ModelSecret>,
    /// Anthropic's.
    pub anthropic: Credential<ModelSecret>,
}

impl ModelSecrets {
    pub(super) fn of(&self, provider: Provider) -> &Credential<ModelSecret> {
        match provider {
            Provider::OpenAi => &self.openai,
            Provider::Anthropic => &self.anthropic,
        }
    }
}
