//! The price of each call.
//!
//! The prices are the vendors' published ones of November 2026. They deliberately do not come from the product's own table, because tests
//! compare what the product records with what they give.

use serde::Serialize;

/// The tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Tokens {
    /// The whole prompt, including the parts that are read from or written to the cache.
    pub(crate) input: i64,
    /// The part of the prompt that was read from the cache.
    pub(crate) cached: i64,
    /// The part of the prompt that was written to the cache and is billed as a cache write.
    pub(crate) cache_write: i64,
    /// The whole output, reasoning included.
    pub(crate) output: i64,
    /// The part of the output that is reasoning.
    pub(crate) reasoning: i64,
}

/// A model that the stand-ins know. Prices are micro-USD per million tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) input: i64,
    pub(crate) cached: i64,
    /// A cache write with the short lifetime. 0 where a write costs nothing extra.
    pub(crate) write: i64,
    pub(crate) output: i64,
    /// The shortest prefix, in tokens, that the vendor caches.
    pub(crate) cacheable_from: i64,
    /// When OpenAI shuts it down.
    pub(crate) shutdown: Option<&'static str>,
}

const fn model(name: &'static str, input: i64, cached: i64, write: i64, output: i64, cacheable_from: i64) -> Model {
    Model { name, input, cached, write, output, cacheable_from, shutdown: None }
}

const fn leaving(model: Model, shutdown: &'static str) -> Model {
    Model { shutdown: Some(shutdown), ..model }
}

/// OpenAI's models.
pub(crate) const OPENAI: &[Model] = &[
    leaving(model("gpt-5", 1_250_000, 125_000, 0, 10_000_000, 1024), "2026-12-11"),
    leaving(model("gpt-5-mini", 250_000, 25_000, 0, 2_000_000, 1024), "2026-12-11"),
    leaving(model("gpt-5-nano", 50_000, 5_000, 0, 400_000, 1024), "2026-12-11"),
    model("gpt-5.4-mini", 750_000, 75_000, 0, 4_500_000, 1024),
    leaving(model("gpt-5.4-nano", 200_000, 20_000, 0, 1_250_000, 1024), "2027-04-01"),
    model("gpt-5.6-luna", 200_000, 20_000, 250_000, 1_200_000, 1024),
    model("gpt-5.6-terra", 2_000_000, 200_000, 2_500_000, 12_000_000, 1024),
    model("gpt-5.6-sol", 4_000_000, 400_000, 5_000_000, 20_000_000, 1024),
    model("gpt-6-luna", 100_000, 10_000, 125_000, 500_000, 1024),
    model("gpt-6-sol", 2_000_000, 200_000, 2_500_000, 10_000_000, 1024),
    model("gpt-6.1-terra", 1_000_000, 50_000, 1_250_000, 5_000_000, 1024),
    model("gpt-6.1-sol", 2_000_000, 100_000, 2_500_000, 10_000_000, 1024),
    model("gpt-6-astra", 10_000_000, 1_000_000, 12_500_000, 50_000_000, 1024),
];

/// Anthropic's models. `write` is the five-minute price; the one-hour price is twice `input`.
pub(crate) const ANTHROPIC: &[Model] = &[
    model("claude-haiku-5-5", 100_000, 10_000, 125_000, 500_000, 1024),
    model("claude-sonnet-5-5", 2_000_000, 100_000, 2_500_000, 10_000_000, 1024),
    model("claude-opus-5-5", 4_000_000, 200_000, 5_000_000, 20_000_000, 512),
    model("claude-fable-5-1", 10_000_000, 250_000, 12_500_000, 50_000_000, 512),
    model("claude-haiku-4-5", 1_000_000, 100_000, 1_250_000, 5_000_000, 4096),
    model("claude-sonnet-4-5", 3_000_000, 300_000, 3_750_000, 15_000_000, 1024),
    model("claude-sonnet-5", 2_000_000, 200_000, 2_500_000, 10_000_000, 1024),
];

/// Returns the model of this name or of a dated snapshot of it, such as `gpt-5-2025-08-07` or `claude-haiku-4-5-20251001`.
pub(crate) fn find(models: &'static [Model], name: &str) -> Option<&'static Model> {
    models.iter().find(|model| {
        name.strip_prefix(model.name).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix("-20").is_some_and(|date| date.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        })
    })
}

impl Model {
    /// Returns the price of a call in micro-USD, the exact sum rounded half up.
    pub(crate) fn price(&self, tokens: Tokens, long_write: bool) -> i64 {
        let write = if long_write { 2 * self.input } else { self.write };
        let fresh = tokens.input - tokens.cached - tokens.cache_write;
        let exact = fresh * self.input + tokens.cached * self.cached + tokens.cache_write * write + tokens.output * self.output;
        (exact + 500_000).div_euclid(1_000_000)
    }
}

/// The price of an Actor result in micro-USD.
pub(crate) const APIFY_ITEM: i64 = 2_300;
/// The price of an error item in micro-USD, for a handle that does not exist.
pub(crate) const APIFY_ERROR_ITEM: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_the_rounded_sum_of_its_parts() {
        let luna = find(OPENAI, "gpt-6-luna").unwrap();
        let tokens = Tokens { input: 2000, cached: 1024, cache_write: 512, output: 300, reasoning: 100 };
        // 464 × 0.10 + 1024 × 0.01 + 512 × 0.125 + 300 × 0.50 dollars a million = 270.64 micro-USD
        assert_eq!(luna.price(tokens, false), 271);
        assert_eq!(luna.price(Tokens { output: 1, ..Tokens::default() }, false), 1, "half a millionth rounds up");
        assert_eq!(luna.price(Tokens::default(), false), 0);
        let sonnet = find(ANTHROPIC, "claude-sonnet-5-5").unwrap();
        assert_eq!(sonnet.price(Tokens { input: 100, cache_write: 100, ..Tokens::default() }, true), 400);
    }

    #[test]
    fn snapshots_are_found_and_other_models_are_not() {
        assert_eq!(find(OPENAI, "gpt-5-2025-08-07").unwrap().name, "gpt-5");
        assert_eq!(find(OPENAI, "gpt-5-mini").unwrap().name, "gpt-5-mini");
        assert!(find(OPENAI, "gpt-5-micro").is_none() && find(ANTHROPIC, "gpt-5").is_none());
    }
}
