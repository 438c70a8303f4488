//! The catalogue of models: prices, and which model answers which call.

use std::collections::BTreeMap;

use oslira_domain::{Call, MicroUsd, Tier};
use serde::{Deserialize, Serialize};

/// Who runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The Responses API.
    OpenAi,
    /// The Messages API.
    Anthropic,
}

impl Provider {
    /// The word in the database and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// How long a model may think. There is no `high`: it costs much time for little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all.
    None,
    /// A little.
    Low,
    /// Some.
    Medium,
}

impl Effort {
    /// The word that both vendors use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
        }
    }
}

/// A model and its prices in micro-USD per million tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Who runs it.
    pub provider: Provider,
    /// Input that is neither read from nor written to a cache.
    pub input: u32,
    /// Input read from a cache.
    pub cached_input: u32,
    /// Input written to a cache.
    pub cache_write: u32,
    /// Output, thinking included.
    pub output: u32,
}

/// What a call used, in tokens. The four kinds do not overlap; `reasoning` is a part of `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input that no cache was used for.
    pub fresh_input: i64,
    /// Input read from a cache.
    pub cached_input: i64,
    /// Input written to a cache.
    pub cache_write: i64,
    /// Output, thinking included.
    pub output: i64,
    /// The thinking in it.
    pub reasoning: i64,
}

impl Model {
    /// What `usage` costs, rounded half up to whole micro-USD, once, from the exact sum.
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        let part = |tokens: i64, price: u32| i128::from(tokens.max(0)) * i128::from(price);
        let exact = part(usage.fresh_input, self.input)
            + part(usage.cached_input, self.cached_input)
            + part(usage.cache_write, self.cache_write)
            + part(usage.output, self.output);
        MicroUsd(i64::try_from((exact + 500_000) / 1_000_000).unwrap_or(i64::MAX))
    }
}

/// Who answers a call, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The model asked first.
    pub model: String,
    /// How long it may think.
    pub effort: Effort,
    /// How much it may write, thinking included.
    pub max_output_tokens: u32,
    /// How long one try may take.
    pub timeout_seconds: u32,
    /// The model of another provider that is asked when the first one's cannot answer.
    pub fallback: Option<String>,
}

/// All models and routes. Complete once it is loaded: every call of every tier has its route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    models: BTreeMap<String, Model>,
    routes: BTreeMap<Tier, BTreeMap<Call, Route>>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, or not of the right shape.
    #[error("the catalogue of models cannot be read: {0}")]
    Unreadable(String),
    /// A call without a route.
    #[error("the catalogue of models has no route for {0} {1}")]
    NoRoute(Tier, Call),
    /// A route that cannot work.
    #[error("in the catalogue of models, the route for {0} {1} {2}")]
    BadRoute(Tier, Call, &'static str),
}

impl Catalogue {
    /// The one compiled in, `models.toml`.
    #[expect(clippy::expect_used, reason = "a test parses the same file")]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../models.toml")).expect("the compiled-in catalogue is checked by a test")
    }

    /// Reads and checks one from configuration.
    ///
    /// # Errors
    /// [`CatalogueError`] when it is not TOML, incomplete, or names what it does not define.
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
                return Err("falls back to the provider that has just failed");
            }
        }
        if !(256..=64_000).contains(&route.max_output_tokens) {
            return Err("needs max_output_tokens from 256 to 64000");
        }
        if !(1..=300).contains(&route.timeout_seconds) {
            return Err("needs timeout_seconds from 1 to 300");
        }
        Ok(())
    }

    /// The route of a call, with the models to ask, first choice first. Empty for a call that the tier does not have.
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
    fn faulty_catalogues_are_refused_when_they_are_loaded() {
        let bad = |fault| Err(CatalogueError::BadRoute(Tier::Light, Call::Core, fault));
        assert!(matches!(Catalogue::parse("models = 1"), Err(CatalogueError::Unreadable(_))));
        assert!(matches!(changed("input = 100_000", "input = -1"), Err(CatalogueError::Unreadable(_))));
        assert!(matches!(changed("effort = \"low\"", "effort = \"high\""), Err(CatalogueError::Unreadable(_))));
        assert_eq!(changed("[routes.light.core]", "[routes.light.outreach]"), Err(CatalogueError::NoRoute(Tier::Light, Call::Core)));
        assert_eq!(changed("model = \"gpt-6-luna\"", "model = \"gpt-5\""), bad("names an unknown model"));
        assert_eq!(changed("fallback = \"claude-haiku-5-5\"", "fallback = \"gpt-5\""), bad("names an unknown fallback"));
        assert_eq!(
            changed("fallback = \"claude-haiku-5-5\"", "fallback = \"gpt-6.1-sol\""),
            bad("falls back to the provider that has just failed")
        );
        assert_eq!(changed("max_output_tokens = 2500", "max_output_tokens = 1"), bad("needs max_output_tokens from 256 to 64000"));
        assert_eq!(changed("timeout_seconds = 30", "timeout_seconds = 0"), bad("needs timeout_seconds from 1 to 300"));
        let without = changed("fallback = \"claude-haiku-5-5\"", "").unwrap();
        assert_eq!(without.route(Tier::Light, Call::Core).unwrap().1.len(), 1);
    }
}
