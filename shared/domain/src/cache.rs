//! Cache entries: which tiers an entry serves, which changes invalidate it, and statistics of the whole cache.

mod changes;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use changes::{Changes, FollowerChange, Reason, Snapshot, similarity};

use crate::{Profile, Tier, Username};

/// How many posts are fetched with a profile, for every tier: a scrape costs the same, and its entry then serves every tier.
pub const DEPTH: usize = 12;

/// How long an entry lives: the bucket's rule `ProfilesLiveAWeek` deletes it after that. `complete_analysis` looks back as far.
pub const LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The version of an entry's layout. Entries of another version are a miss and are replaced.
pub const VERSION: u32 = 1;

/// A cache entry: a profile with its age. All tenants share it, so that it contains nothing about a business.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachedProfile {
    /// The version of its layout, which is [`VERSION`] in a usable entry.
    pub version: u32,
    /// When it was scraped.
    pub scraped_at: Timestamp,
    /// How many posts were requested. A profile may have fewer.
    pub depth: usize,
    /// The profile.
    pub profile: Profile,
}

impl CachedProfile {
    /// Makes the entry of a profile that was scraped at that time.
    pub const fn new(profile: Profile, scraped_at: Timestamp) -> Self {
        Self { version: VERSION, scraped_at, depth: DEPTH, profile }
    }

    /// Whether the entry serves `tier` at the time `now`: it has the current layout, is young enough, has enough posts and is not private. A
    /// private profile cannot be analyzed and may have become public since. An entry from the future (a wrong clock) is not used.
    pub fn serves(&self, tier: Tier, now: Timestamp) -> bool {
        self.is_current(tier.max_profile_age(), now) && self.depth >= tier.posts() && !self.profile.is_private
    }

    /// Whether the entry has the current layout and is at most `limit` old.
    pub fn is_current(&self, limit: Duration, now: Timestamp) -> bool {
        let age = now.duration_since(self.scraped_at);
        self.version == VERSION && !age.is_negative() && age.unsigned_abs() <= limit
    }
}

/// The prefix of all keys.
pub const PREFIX: &str = "instagram:";

/// Returns the key of a profile's entry in the bucket.
pub fn key(username: &Username) -> String {
    format!("{PREFIX}{username}:v{VERSION}")
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn entry(depth: usize) -> CachedProfile {
        let profile = serde_json::json!({
            "username": "nike", "display_name": "Nike", "bio": "", "follower_count": 1, "following_count": 0, "post_count": 0,
            "external_url": null, "profile_pic_url": null, "is_verified": false, "is_private": false,
            "is_business_account": false, "business_category": null, "posts": []
        });
        CachedProfile { depth, ..CachedProfile::new(serde_json::from_value(profile).unwrap(), Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn the_maximum_age_of_each_tier_is_inclusive() {
        let (entry, at) = (entry(12), |hours: i64| Timestamp::UNIX_EPOCH + hours.hours());
        let served = |now| Tier::ALL.map(|tier| entry.serves(tier, now));
        assert_eq!(served(at(6)), [true, true, true]);
        assert_eq!(served(at(6) + 1.second()), [true, true, false]);
        assert_eq!(served(at(13)), [true, false, false]);
        assert_eq!(served(at(24) + 1.second()), [false, false, false]);
        assert_eq!(served(at(-1)), [false, false, false]);
    }

    #[test]
    fn each_tier_needs_its_number_of_posts() {
        assert_eq!(Tier::ALL.map(|tier| entry(6).serves(tier, Timestamp::UNIX_EPOCH)), [true, false, false]);
        assert_eq!(Tier::ALL.map(|tier| entry(5).serves(tier, Timestamp::UNIX_EPOCH)), [false, false, false]);
    }

    #[test]
    fn a_new_entry_has_enough_posts_for_every_tier() {
        let entry = CachedProfile::new(entry(0).profile, Timestamp::UNIX_EPOCH);
        assert_eq!(Tier::ALL.map(|tier| entry.serves(tier, Timestamp::UNIX_EPOCH)), [true; 3]);
    }

    #[test]
    fn a_private_profile_serves_no_analysis() {
        let mut private = entry(12);
        private.profile.is_private = true;
        assert_eq!(Tier::ALL.map(|tier| private.serves(tier, Timestamp::UNIX_EPOCH)), [false; 3]);
        assert!(private.is_current(Duration::ZERO, Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn another_layout_is_a_miss() {
        let old = CachedProfile { version: 0, ..entry(12) };
        assert!(!old.serves(Tier::Light, Timestamp::UNIX_EPOCH));
        assert_eq!(key(&old.profile.username), "instagram:nike:v1");
    }
}
