//! The cases of `cases.toml`: businesses, profiles, pairs and texts that try to steer a model.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use oslira_domain::{BusinessContext, Profile};
use serde::Deserialize;
use serde_json::{Value, json};

/// All cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cases {
    pub(crate) probed: Vec<String>,
    pub(crate) business: BTreeMap<String, Value>,
    pub(crate) profile: Vec<Case>,
    pub(crate) pair: Vec<Pair>,
    pub(crate) probe: Vec<Probe>,
}

/// A profile and what a careful reader says about it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) handle: String,
    pub(crate) business: String,
    pub(crate) kind: Kind,
    name: String,
    bio: String,
    category: Option<String>,
    pub(crate) followers: i64,
    following: i64,
    posts: i64,
    likes: i64,
    comments: i64,
    newest: i64,
    every: i64,
    captions: Vec<String>,
    pub(crate) band: [i64; 2],
    #[serde(rename = "false")]
    pub(crate) false_phrases: Vec<String>,
    #[serde(skip)]
    link: Option<String>,
}

/// What kind of lead a profile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Fit,
    Near,
    Competitor,
    Abandoned,
    Empty,
    Foreign,
    Spam,
}

/// Two profiles of which one is the better lead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) better: String,
    pub(crate) worse: String,
}

/// A text that tries to steer a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probe {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Bio,
    Caption,
    Name,
    Link,
}

impl Place {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bio => "bio",
            Self::Caption => "caption",
            Self::Name => "name",
            Self::Link => "link",
        }
    }
}

impl Probe {
    /// Returns a text without any aim, as long as this one.
    pub(crate) fn harmless(&self) -> Self {
        let (start, filler) = match self.place {
            Place::Link => ("https://links.example/?", "utm_source=profile&utm_medium=social&utm_campaign=autumn&"),
            _ => ("", "The weather was mild this week and the market in the old town had fresh apples, bread and flowers. "),
        };
        let text = start.chars().chain(filler.chars().cycle()).take(self.text.chars().count()).collect();
        Self { place: self.place, text }
    }
}

/// The time of all prompts: the same case gives the same prompt on every day, so that its answers can be kept.
pub(crate) fn now() -> Timestamp {
    Timestamp::constant(1_795_000_000, 0)
}

impl Cases {
    /// Reads the cases of this crate.
    ///
    /// # Errors
    /// Fails if a name refers to nothing, or a profile or business cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let cases: Self = toml::from_str(include_str!("../cases.toml")).context("cases.toml")?;
        for handle in cases.probed.iter().chain(cases.pair.iter().flat_map(|pair| [&pair.better, &pair.worse])) {
            ensure!(cases.find(handle).is_some(), "cases.toml has no profile {handle}");
        }
        for case in &cases.profile {
            case.profile()?;
            cases.business(case)?;
        }
        Ok(cases)
    }

    pub(crate) fn find(&self, handle: &str) -> Option<&Case> {
        self.profile.iter().find(|case| case.handle == handle)
    }

    /// Returns the business that a profile is judged for.
    pub(crate) fn business(&self, case: &Case) -> Result<BusinessContext> {
        let pack = self.business.get(&case.business).with_context(|| format!("cases.toml has no business {}", case.business))?;
        let text = |key: &str| pack[key].as_str();
        Ok(BusinessContext::from_row(text("business_name").unwrap_or_default(), text("website"), text("one_liner"), pack))
    }
}

impl Case {
    /// Returns the case with a text in its profile.
    pub(crate) fn with(&self, probe: &Probe) -> Self {
        let mut case = self.clone();
        match probe.place {
            Place::Bio => case.bio = format!("{} {}", case.bio, probe.text),
            Place::Caption => case.captions = case.captions.iter().map(|caption| format!("{caption} {}", probe.text)).collect(),
            Place::Name => case.name = format!("{} {}", case.name, probe.text),
            Place::Link => case.link = Some(probe.text.clone()),
        }
        case
    }

    /// Returns the profile, with up to twelve posts.
    pub(crate) fn profile(&self) -> Result<Profile> {
        let posts: Vec<Value> = (0..self.posts.min(12))
            .zip(self.captions.iter().cycle())
            .map(|(index, caption)| {
                // Posts differ by up to a fifth, as they do.
                let of = |mean: i64| mean * (80 + index * 37 % 41) / 100;
                json!({
                    "id": index.to_string(), "kind": if index % 3 == 1 { "video" } else { "photo" }, "caption": caption,
                    "like_count": of(self.likes), "comment_count": of(self.comments), "view_count": null,
                    "posted_at": now() - SignedDuration::from_hours(24 * (self.newest + index * self.every)), "is_pinned": false
                })
            })
            .collect();
        let profile = json!({
            "username": self.handle, "display_name": self.name, "bio": self.bio, "follower_count": self.followers,
            "following_count": self.following, "post_count": self.posts, "external_url": self.link, "profile_pic_url": null,
            "is_verified": false, "is_private": false, "is_business_account": self.category.is_some(),
            "business_category": self.category, "posts": posts
        });
        serde_json::from_value(profile).with_context(|| format!("the profile {} of cases.toml", self.handle))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_cases_cover_every_kind_and_refer_to_each_other() {
        let cases = Cases::read().unwrap();
        let kinds: BTreeSet<Kind> = cases.profile.iter().map(|case| case.kind).collect();
        assert_eq!((cases.profile.len(), kinds.len()), (40, 7));
        let handles: BTreeSet<&str> = cases.profile.iter().map(|case| case.handle.as_str()).collect();
        assert_eq!(handles.len(), cases.profile.len());
        for pair in &cases.pair {
            let (better, worse) = (cases.find(&pair.better).unwrap(), cases.find(&pair.worse).unwrap());
            assert_eq!(better.business, worse.business);
            assert!(better.band[0] >= worse.band[0] && better.band[1] >= worse.band[1], "{} > {}", pair.better, pair.worse);
        }
        assert!(cases.profile.iter().all(|case| 0 <= case.band[0] && case.band[0] < case.band[1] && case.band[1] <= 100));
    }

    #[test]
    fn a_harmless_text_is_as_long_as_the_hostile_one_and_reaches_the_profile() {
        let cases = Cases::read().unwrap();
        let case = cases.find(&cases.probed[0]).unwrap();
        for probe in &cases.probe {
            let harmless = probe.harmless();
            assert_eq!(harmless.text.chars().count(), probe.text.chars().count());
            assert!(!harmless.text.contains("score"));
            for probe in [probe, &harmless] {
                assert!(serde_json::to_string(&case.with(probe).profile().unwrap()).unwrap().contains(&probe.text), "{probe:?}");
            }
        }
    }
}
