//! Changes of a profile that invalidate its cache entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Profile;

/// The part of a profile that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Followers. `None` if unknown.
    pub follower_count: Option<i64>,
    /// The bio.
    pub bio: String,
    /// Visible to followers only.
    pub is_private: bool,
    /// Verified by Instagram.
    pub is_verified: bool,
}

impl From<&Profile> for Snapshot {
    fn from(profile: &Profile) -> Self {
        Self {
            follower_count: profile.follower_count,
            bio: profile.bio.clone(),
            is_private: profile.is_private,
            is_verified: profile.is_verified,
        }
    }
}

/// The change that invalidates an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The followers changed by more than a tenth.
    FollowerChange,
    /// The similarity of the bios is less than 0.7.
    BioChange,
    /// Private became public, or the reverse.
    PrivacyChange,
    /// Verified, or no longer.
    VerificationChange,
    /// There is no older profile to compare with.
    TtlExpired,
}

/// The change of the number of followers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct FollowerChange {
    /// Before. `None` if unknown.
    pub old: Option<i64>,
    /// Now. `None` if unknown.
    pub new: Option<i64>,
    /// The difference. Negative for fewer. `None` unless both numbers are known.
    pub change: Option<i64>,
    /// The difference in percent of `old`, rounded to two digits. `None` if it is unknown, or if there were none before.
    pub change_percent: Option<f64>,
}

/// The differences between two snapshots of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub struct Changes {
    /// The followers. Whether they changed enough is [`Changes::followers_changed`].
    pub follower_count: FollowerChange,
    /// Whether the followers changed by more than a tenth of the old number. Any increase from zero counts. An unknown number is no change.
    pub followers_changed: bool,
    /// Whether the similarity of the bios is less than 0.7.
    pub bio_changed: bool,
    /// Private became public, or the reverse.
    pub privacy_changed: bool,
    /// Verified, or no longer.
    pub verification_changed: bool,
}

impl Changes {
    /// Compares two snapshots.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let both = old.follower_count.zip(new.follower_count);
        let change = both.map(|(before, now)| now.saturating_sub(before));
        #[expect(clippy::cast_precision_loss, reason = "followers are far below 2^53, and this number is only displayed")]
        let percent = |(before, change): (i64, i64)| (change as f64 / before as f64 * 10_000.0).round() / 100.0;
        let change_percent = old.follower_count.filter(|before| *before > 0).zip(change).map(percent);
        let (distance, longest) = distance(&old.bio, &new.bio);
        Self {
            follower_count: FollowerChange { old: old.follower_count, new: new.follower_count, change, change_percent },
            // In integers: a quotient at the boundary could be rounded to either side.
            followers_changed: both
                .map(|(before, now)| (i128::from(before), i128::from(now)))
                .is_some_and(|(before, now)| (now - before).abs() * 10 > before),
            bio_changed: distance * 10 > longest * 3,
            privacy_changed: old.is_private != new.is_private,
            verification_changed: old.is_verified != new.is_verified,
        }
    }

    /// Returns the first change, in this order, that invalidates the entry.
    pub fn reason(&self) -> Option<Reason> {
        let rules = [
            (self.followers_changed, Reason::FollowerChange),
            (self.bio_changed, Reason::BioChange),
            (self.privacy_changed, Reason::PrivacyChange),
            (self.verification_changed, Reason::VerificationChange),
        ];
        rules.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
    }
}

/// Returns the Levenshtein distance of two texts in characters (Unicode scalar values), and the length of the longer one.
fn distance(one: &str, other: &str) -> (usize, usize) {
    (strsim::levenshtein(one, other), one.chars().count().max(other.chars().count()))
}

/// Returns the similarity of two texts, from 0 to 1: one minus the Levenshtein distance divided by the length of the longer one. Two empty
/// texts have the similarity 1; an empty and another one have 0.
pub fn similarity(one: &str, other: &str) -> f64 {
    let (distance, longest) = distance(one, other);
    #[expect(clippy::cast_precision_loss, reason = "bios are short")]
    let share = if longest == 0 { 0.0 } else { distance as f64 / longest as f64 };
    1.0 - share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn profile(followers: impl Into<Option<i64>>, bio: &str) -> Snapshot {
        Snapshot { follower_count: followers.into(), bio: bio.to_owned(), is_private: false, is_verified: false }
    }

    #[test]
    fn a_snapshot_has_what_is_compared() {
        let profile = Profile {
            username: "nike".parse().unwrap(),
            display_name: "Nike".to_owned(),
            bio: "Just do it".to_owned(),
            follower_count: Some(7),
            following_count: Some(3),
            post_count: Some(12),
            external_url: None,
            profile_pic_url: None,
            is_verified: true,
            is_private: false,
            is_business_account: true,
            business_category: None,
            posts: Vec::new(),
        };
        let kept = Snapshot { follower_count: Some(7), bio: "Just do it".to_owned(), is_private: false, is_verified: true };
        assert_eq!(Snapshot::from(&profile), kept);
    }

    fn followers(old: impl Into<Option<i64>>, new: impl Into<Option<i64>>) -> Changes {
        Changes::between(&profile(old, ""), &profile(new, ""))
    }

    fn bios(old: &str, new: &str) -> bool {
        Changes::between(&profile(1, old), &profile(1, new)).bio_changed
    }

    #[test]
    fn followers_may_move_by_exactly_a_tenth() {
        for (old, new, changed) in [
            (1000, 1100, false),
            (1000, 1101, true),
            (1000, 900, false),
            (1000, 899, true),
            (1000, 1000, false),
            (1, 1, false),
            (1, 2, true),
            (9, 10, true),
            (10, 11, false),
            (15, 16, false),
            (15, 17, true),
            (0, 0, false),
            (0, 1, true),
            (0, 640_000_000, true),
            (5, 0, true),
            (i64::MAX, 0, true),
            (0, i64::MAX, true),
            (i64::MAX, i64::MAX, false),
        ] {
            let found = followers(old, new);
            assert_eq!(found.followers_changed, changed, "{old} to {new}");
            assert_eq!(found.reason(), changed.then_some(Reason::FollowerChange), "{old} to {new}");
        }
    }

    #[test]
    fn the_percentage_is_rounded_and_absent_without_old_followers() {
        let check = |old: i64, new: i64, change: i64, percent| {
            let expected = FollowerChange { old: Some(old), new: Some(new), change: Some(change), change_percent: percent };
            assert_eq!(followers(old, new).follower_count, expected);
        };
        check(300, 400, 100, Some(33.33));
        check(300, 100, -200, Some(-66.67));
        check(0, 100, 100, None);
        check(0, 0, 0, None);
    }

    #[test]
    fn an_unknown_number_of_followers_is_no_change() {
        for (old, new) in [(Some(10_000), None), (None, Some(10_000)), (None, None)] {
            let found = followers(old, new);
            assert_eq!(found.follower_count, FollowerChange { old, new, change: None, change_percent: None });
            assert_eq!((found.followers_changed, found.reason()), (false, None));
        }
    }

    #[test]
    fn bios_may_differ_by_exactly_three_tenths() {
        assert!(!bios("abcdefghij", "abcdefgxyz"), "0.7 is no change");
        assert!(bios("abcdefghij", "abcdefwxyz"), "0.6 is one");
        assert!(!bios("abcdefghij", "abcdefghijklmn"), "4 of 14 is above 0.7");
        assert!(bios("abcdefghij", "abcdefghijklmno"), "5 of 15 is below");
        // Exactly 0.7, with lengths whose quotient is no binary fraction.
        for tenths in 1..=50_usize {
            let old = "a".repeat(10 * tenths);
            let at = format!("{}{}", "a".repeat(7 * tenths), "b".repeat(3 * tenths));
            let below = format!("{}{}", "a".repeat(7 * tenths - 1), "b".repeat(3 * tenths + 1));
            assert!(!bios(&old, &at) && bios(&old, &below), "{tenths}");
        }
    }

    #[test]
    fn empty_bios_are_equal_and_differ_from_any_other() {
        assert!(!bios("", ""));
        assert!(bios("", "a") && bios("a", ""));
        assert_eq!((similarity("", ""), similarity("", "a"), similarity("a", "")), (1.0, 0.0, 0.0));
    }

    #[test]
    fn an_emoji_is_as_long_as_a_letter() {
        // In bytes, three of these characters would count as twelve letters.
        assert!(!bios("☕abcdefg🚀🎉", "☕abcdefxyz"), "three of ten characters");
        assert!(bios("☕abcdefg🚀🎉", "☕abcdewxyz"), "four of ten");
        assert!(!bios("🚀🚀🚀🚀🚀🚀🚀🎉🎉🎉", "🚀🚀🚀🚀🚀🚀🚀☕☕☕") && bios("🚀", "🎉"));
        // A family is five scalar values: three people and two joiners.
        assert!(bios("👨‍👩‍👧", "👨") && !bios("👨‍👩‍👧 mother of two", "👨‍👩‍👦 mother of two"));
    }

    #[test]
    fn privacy_and_verification_change_in_both_directions() {
        let plain = profile(1, "");
        let private = Snapshot { is_private: true, ..plain.clone() };
        let verified = Snapshot { is_verified: true, ..plain.clone() };
        for (old, new, reason) in [
            (&plain, &private, Some(Reason::PrivacyChange)),
            (&private, &plain, Some(Reason::PrivacyChange)),
            (&private, &private, None),
            (&plain, &verified, Some(Reason::VerificationChange)),
            (&verified, &plain, Some(Reason::VerificationChange)),
            (&verified, &private, Some(Reason::PrivacyChange)),
        ] {
            assert_eq!(Changes::between(old, new).reason(), reason);
        }
    }

    #[test]
    fn the_first_rule_names_the_reason() {
        let old = profile(100, "coffee");
        let new = Snapshot { follower_count: Some(200), bio: "dogs".to_owned(), is_private: true, is_verified: true };
        let changes = Changes::between(&old, &new);
        assert!(changes.followers_changed && changes.bio_changed && changes.privacy_changed && changes.verification_changed);
        assert_eq!(changes.reason(), Some(Reason::FollowerChange));
        let new = Snapshot { follower_count: Some(100), ..new };
        assert_eq!(Changes::between(&old, &new).reason(), Some(Reason::BioChange));
        assert_eq!(serde_json::to_value(Reason::PrivacyChange).unwrap(), "privacy_change");
    }

    proptest! {
        #[test]
        fn within_a_tenth_is_no_change_and_beyond_it_is_one(old in 0_i64..1_000_000_000, new in 0_i64..1_000_000_000) {
            let tenth = i128::from(old);
            let moved = (i128::from(new) - i128::from(old)).abs() * 10;
            prop_assert_eq!(followers(old, new).followers_changed, moved > tenth);
            prop_assert!(!followers(old, old + old / 10).followers_changed);
            prop_assert!(followers(old, old + old / 10 + 1).followers_changed);
            prop_assert!(!followers(old, old - old / 10).followers_changed);
            prop_assert!(followers(old, (old - old / 10 - 1).max(0)).followers_changed == (old > 0));
        }

        #[test]
        fn bios_are_compared_alike_in_both_directions(one in any::<String>(), other in any::<String>()) {
            let shared = similarity(&one, &other);
            prop_assert!((0.0..=1.0).contains(&shared));
            prop_assert!((shared - similarity(&other, &one)).abs() < 1e-12);
            prop_assert_eq!(bios(&one, &other), bios(&other, &one));
            prop_assert!(!bios(&one, &one));
            // Away from the boundary the exact rule and the rounded number agree.
            if (shared - 0.7).abs() > 1e-9 {
                prop_assert_eq!(bios(&one, &other), shared < 0.7);
            }
        }

        #[test]
        fn nothing_changed_is_no_reason(followers in any::<i64>(), bio in any::<String>(), private in any::<bool>(), verified in any::<bool>()) {
            let snapshot = Snapshot { follower_count: Some(followers.max(0)), bio, is_private: private, is_verified: verified };
            prop_assert_eq!(Changes::between(&snapshot, &snapshot).reason(), None);
        }
    }
}
