//! The three tiers of an analysis, their prices in credits and their questions.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::Credits;

/// How deeply a profile is analyzed. Parses in any case, because the price list has the names in capitals.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, parse_err_ty = Expected, parse_err_fn = expected_tier)]
pub enum Tier {
    /// One question: is the profile worth a closer look?
    Light,
    /// Fit, content and audience, with a first message.
    Deep,
    /// The fields of `deep`, with psychology and buying signals.
    Xray,
}

impl Tier {
    /// Every tier, the least detailed first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Deep, Self::Xray];

    /// Returns the price of a run.
    pub const fn credits(self) -> Credits {
        match self {
            Self::Light => Credits(1),
            Self::Deep => Credits(3),
            Self::Xray => Credits(5),
        }
    }

    /// Returns the questions of the tier. They do not depend on each other, so that all of them are put at once.
    pub const fn calls(self) -> &'static [Call] {
        match self {
            Self::Light => &[Call::Core],
            Self::Deep => &[Call::Core, Call::Outreach, Call::Personality],
            Self::Xray => &[Call::Psychographic, Call::Commercial, Call::Outreach, Call::Personality],
        }
    }

    /// Returns the maximum age of a cache entry for this tier.
    pub const fn max_profile_age(self) -> Duration {
        Duration::from_hours(match self {
            Self::Light => 24,
            Self::Deep => 12,
            Self::Xray => 6,
        })
    }

    /// Returns how many of the latest posts the tier uses.
    pub const fn posts(self) -> usize {
        match self {
            Self::Light => 6,
            Self::Deep | Self::Xray => 12,
        }
    }

    /// Returns the value in the API, the database and the catalogue of models.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a text that is no tier should have been.
type Expected = &'static str;

const fn expected_tier(_: &str) -> Expected {
    "light, deep or xray"
}

/// One question to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Call {
    /// Scores and recommendation.
    Core,
    /// A first message to the lead, and angles for it.
    Outreach,
    /// The personality that the profile suggests.
    Personality,
    /// The scores of `core`, with psychology, for `xray`.
    Psychographic,
    /// Budget, role and buying stage.
    Commercial,
}

impl Call {
    /// Returns the value in states, logs and the catalogue of models.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_questions_ages_and_posts_are_the_published_ones() {
        let facts: Vec<_> = Tier::ALL
            .iter()
            .map(|tier| (tier.as_str(), tier.credits().0, tier.calls().len(), tier.max_profile_age().as_secs() / 3600, tier.posts()))
            .collect();
        assert_eq!(facts, [("light", 1, 1, 24, 6), ("deep", 3, 3, 12, 12), ("xray", 5, 4, 6, 12)]);
    }

    #[test]
    fn names_parse_back_and_unknown_ones_do_not() {
        for tier in Tier::ALL {
            assert_eq!(tier.to_string().parse(), Ok(tier));
        }
        assert_eq!("LIGHT".parse(), Ok(Tier::Light), "the price list has capitals");
        assert_eq!("lite".parse::<Tier>(), Err("light, deep or xray"));
        let calls: Vec<_> = Tier::Xray.calls().iter().chain([&Call::Core]).map(ToString::to_string).collect();
        assert_eq!(calls, ["psychographic", "commercial", "outreach", "personality", "core"]);
    }
}
