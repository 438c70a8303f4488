//! The catalogue of models: their prices, and which model answers which question.

use std::collections::BTreeMap;

use oslira_domain::{Call, MicroUsd, Tier};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The provider of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Provider {
    /// `OpenAI`, or a server that is compatible with it.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

impl Provider {
    /// Returns the value in the database and in logs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How much a model may reason. There is no `high`: it takes much more time for little gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Effort {
    /// No reasoning.
    None,
    /// Little reasoning.
    Low,
    /// Some reasoning.
    Medium,
}

impl Effort {
    /// Returns the value in the requests of both providers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A model and its prices in micro-USD per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its provider.
    pub provider: Provider,
    /// Input that is neither read from nor written to a cache.
    pub input: u32,
    /// Input read from a cache.
    pub cached_input: u32,
    /// Input written to a cache.
    pub cache_write: u32,
    /// Output, reasoning included.
    pub output: u32,
    /// The field that limits its output in the Chat Completions API.
    #[serde(default)]
    pub output_limit: OutputLimit,
}

/// The field that limits a model's output in the Chat Completions API. Some compatible servers know the older one only and ignore the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OutputLimit {
    /// As `OpenAI` does.
    #[default]
    MaxCompletionTokens,
    /// As Ollama does.
    MaxTokens,
}

impl OutputLimit {
    /// Returns the name of the field.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The tokens of one call. The four kinds do not overlap; `reasoning` is a part of `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input that is neither read from nor written to a cache.
    pub fresh_input: i64,
    /// Input read from a cache.
    pub cached_input: i64,
    /// Input written to a cache.
    pub cache_write: i64,
    /// Output, reasoning included.
    pub output: i64,
    /// The part of the output that was reasoning.
    pub reasoning: i64,
}

impl Model {
    /// Returns the cost of `usage`: the exact sum, rounded once, half up, to whole micro-USD.
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        let part = |tokens: i64, price: u32| i128::from(tokens.max(0)) * i128::from(price);
        let exact = part(usage.fresh_input, self.input)
            + part(usage.cached_input, self.cached_input)
            + part(usage.cache_write, self.cache_write)
            + part(usage.output, self.output);
        MicroUsd(i64::try_from((exact + 500_000) / 1_000_000).unwrap_or(i64::MAX))
    }
}

/// Which model answers a question, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The first model to use.
    pub model: String,
    /// How much it may reason. Without it, requests do not mention it: servers without reasoning reject even `none`.
    pub effort: Option<Effort>,
    /// The limit of its output, reasoning included.
    pub max_output_tokens: u32,
    /// The timeout of one attempt.
    pub timeout_seconds: u32,
    /// The model of another provider that is used when the first one cannot answer.
    pub fallback: Option<String>,
}

/// All models and routes. A catalogue has a route for every question of every tier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    models: BTreeMap<String, Model>,
    routes: BTreeMap<Tier, BTreeMap<Call, Route>>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is not TOML, or has the wrong structure.
    #[error("the catalogue of models cannot be read: {0}")]
    Unreadable(String),
    /// A question has no route.
    #[error("the catalogue of models has no route for {0} {1}")]
    NoRoute(Tier, Call),
    /// A route is invalid.
    #[error("in the catalogue of models, the route for {0} {1} {2}")]
    BadRoute(Tier, Call, &'static str),
}

impl Catalogue {
    /// Returns the compiled-in catalogue, `models.toml`.
    #[expect(clippy::expect_used, reason = "a test parses the same file")]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../models.toml")).expect("the compiled-in catalogue is checked by a test")
    }

    /// Parses and checks a catalogue.
    ///
    /// # Errors
    /// Fails with [`CatalogueError`] when it is not TOML, is incomplete, or names a model that it does not define.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let catalogue: Self = toml::from_str(text).map_err(|error| CatalogueError::Unreadable(error.message().to_owned()))?;
        for tier in Tier::ALL {
            for call in tier.calls() {
                let route = catalogue.find(tier, *call).ok_or(CatalogueError::NoRoute(tier, *call))?;
                catalogue.check(route).map_err(|fault| CatalogueError::BadRoute(tier, *call, fault))?;
            }
        }
        Ok(catalogue)
    }

    fn find(&self, tier: Tier, call: Call) -> Option<&Route> {
        self.routes.get(&tier).and_then(|calls| calls.get(&call))
    }

    fn check(&self, route: &Route) -> Result<(), &'static str> {
        let model = self.models.get(&route.model).ok_or("names an unknown model")?;
        if let Some(name) = &route.fallback {
            let fallback = self.models.get(name).ok_or("names an unknown fallback")?;
            if fallback.provider == model.provider {
                return Err("falls back to the same provider");
            }
        }
        if !(256..=64_000).contains(&route.max_output_tokens) {
            return Err("needs max_output_tokens from 256 to 64000");
        }
        // An invocation of 300 seconds keeps some of them for records: a longer attempt would never start.
        if !(1..=280).contains(&route.timeout_seconds) {
            return Err("needs timeout_seconds from 1 to 280");
        }
        Ok(())
    }

    /// Returns the route of a question with its models, first choice first. `None` for a question that the tier does not have.
    pub fn route(&self, tier: Tier, call: Call) -> Option<(&Route, Vec<(&str, &Model)>)> {
        let route = self.find(tier, call)?;
        let names = [Some(&route.model), route.fallback.as_ref()].into_iter().flatten();
        Some((route, names.filter_map(|name| self.models.get_key_value(name)).map(|(name, model)| (name.as_str(), model)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> Result<Catalogue, CatalogueError> {
        let text = include_str!("../models.toml");
        assert!(text.contains(from), "{from}");
        Catalogue::parse(&text.replacen(from, to, 1))
    }

    #[test]
    fn the_builtin_catalogue_is_complete_and_falls_back_to_another_provider() {
        let catalogue = Catalogue::builtin();
        for tier in Tier::ALL {
            for call in tier.calls() {
                let (_, models) = catalogue.route(tier, *call).unwrap();
                assert_eq!(models.iter().map(|(_, model)| model.provider).collect::<Vec<_>>(), [Provider::OpenAi, Provider::Anthropic]);
            }
        }
        assert_eq!(catalogue.route(Tier::Light, Call::Commercial), None);
        assert_eq!([Provider::OpenAi, Provider::Anthropic].map(Provider::as_str), ["openai", "anthropic"]);
    }

    #[test]
    fn costs_are_the_exact_sum_rounded_once() {
        let catalogue = Catalogue::builtin();
        let luna = catalogue.route(Tier::Light, Call::Core).unwrap().1[0].1;
        let usage = Usage { fresh_input: 1000, cached_input: 2048, cache_write: 100, output: 500, reasoning: 200 };
        // 100 + 20.48 + 12.5 + 250
        assert_eq!(luna.cost(&usage), MicroUsd(383));
        assert_eq!(luna.cost(&Usage { fresh_input: 5, ..Usage::default() }), MicroUsd(1));
        assert_eq!(luna.cost(&Usage { fresh_input: 4, ..Usage::default() }), MicroUsd(0));
        assert_eq!(luna.cost(&Usage { output: i64::MAX, fresh_input: -5, ..Usage::default() }), MicroUsd(i64::MAX / 2 + 1));
    }

    #[test]
    fn invalid_catalogues_are_rejected_when_they_are_parsed() {
        let bad = |fault| Err(CatalogueError::BadRoute(Tier::Light, Call::Core, fault));
        assert!(matches!(Catalogue::parse("models = 1"), Err(CatalogueError::Unreadable(_))));
        assert!(matches!(changed("input = 100_000", "input = -1"), Err(CatalogueError::Unreadable(_))));
        assert!(matches!(changed("effort = \"low\"", "effort = \"high\""), Err(CatalogueError::Unreadable(_))));
        assert_eq!(changed("[routes.light.core]", "[routes.light.outreach]"), Err(CatalogueError::NoRoute(Tier::Light, Call::Core)));
        assert_eq!(changed("model = \"gpt-6-luna\"", "model = \"gpt-5\""), bad("names an unknown model"));
        assert_eq!(changed("fallback = \"claude-haiku-5-5\"", "fallback = \"gpt-5\""), bad("names an unknown fallback"));
        assert_eq!(changed("fallback = \"claude-haiku-5-5\"", "fallback = \"gpt-6.1-sol\""), bad("falls back to the same provider"));
        assert_eq!(changed("max_output_tokens = 2500", "max_output_tokens = 1"), bad("needs max_output_tokens from 256 to 64000"));
        assert_eq!(changed("timeout_seconds = 30", "timeout_seconds = 281"), bad("needs timeout_seconds from 1 to 280"));
        let without = changed("effort = \"low\"\n", "").unwrap();
        assert_eq!(without.route(Tier::Light, Call::Core).unwrap().0.effort, None);
        let older = changed("output = 500_000", "output = 500_000\noutput_limit = \"max_tokens\"").unwrap();
        assert_eq!(older.route(Tier::Light, Call::Core).unwrap().1[0].1.output_limit, OutputLimit::MaxTokens);
        let without = changed("fallback = \"claude-haiku-5-5\"", "").unwrap();
        assert_eq!(without.route(Tier::Light, Call::Core).unwrap().1.len(), 1);
    }
}
