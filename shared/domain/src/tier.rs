//! The three depths of an analysis, their prices in credits and the AI calls each consists of.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Credits;

/// How deep a profile is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// One call: is it worth a second look?
    Light,
    /// Fit, content and audience, with a first message.
    Deep,
    /// DEEP's fields plus psychology and buying signals.
    Xray,
}

impl Tier {
    /// Every tier, shallowest first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Deep, Self::Xray];

    /// What a run costs its account.
    pub const fn credits(self) -> Credits {
        match self {
            Self::Light => Credits(1),
            Self::Deep => Credits(3),
            Self::Xray => Credits(5),
        }
    }

    /// The AI calls of the tier. They do not depend on each other, so all of them run at once.
    pub const fn calls(self) -> &'static [Call] {
        match self {
            Self::Light => &[Call::Core],
            Self::Deep => &[Call::Core, Call::Outreach, Call::Personality],
            Self::Xray => &[Call::Psychographic, Call::Commercial, Call::Outreach, Call::Personality],
        }
    }

    /// How old a cached profile may be for this tier.
    pub const fn max_profile_age(self) -> Duration {
        Duration::from_hours(match self {
            Self::Light => 24,
            Self::Deep => 12,
            Self::Xray => 6,
        })
    }

    /// How many of the latest posts the tier looks at.
    pub const fn posts(self) -> usize {
        match self {
            Self::Light => 6,
            Self::Deep | Self::Xray => 12,
        }
    }

    /// The word used in the API, the database and the catalogue of models.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Deep => "deep",
            Self::Xray => "xray",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|tier| tier.as_str().eq_ignore_ascii_case(text)).ok_or("light, deep or xray")
    }
}

/// One question to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// Scores and judgement.
    Core,
    /// The first message to the lead, and angles for it.
    Outreach,
    /// What the profile shows of its owner's character.
    Personality,
    /// XRAY's judgement: DEEP's scores and psychology.
    Psychographic,
    /// Budget, role and buying stage.
    Commercial,
}

impl Call {
    /// The word used in states, logs and the catalogue of models.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Outreach => "outreach",
            Self::Personality => "personality",
            Self::Psychographic => "psychographic",
            Self::Commercial => "commercial",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_calls_ages_and_depths_are_the_published_ones() {
        let facts: Vec<_> = Tier::ALL
            .iter()
            .map(|tier| (tier.as_str(), tier.credits().0, tier.calls().len(), tier.max_profile_age().as_secs() / 3600, tier.posts()))
            .collect();
        assert_eq!(facts, [("light", 1, 1, 24, 6), ("deep", 3, 3, 12, 12), ("xray", 5, 4, 6, 12)]);
    }

    #[test]
    fn words_parse_back_and_strangers_do_not() {
        for tier in Tier::ALL {
            assert_eq!(tier.to_string().parse(), Ok(tier));
        }
        assert_eq!("LIGHT".parse(), Ok(Tier::Light), "people write them as the price list does");
        assert_eq!("lite".parse::<Tier>(), Err("light, deep or xray"));
        let calls: Vec<_> = Tier::Xray.calls().iter().chain([&Call::Core]).map(ToString::to_string).collect();
        assert_eq!(calls, ["psychographic", "commercial", "outreach", "personality", "core"]);
    }
}
