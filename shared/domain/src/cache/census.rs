//! Statistics of the cache.

use std::time::Duration;

use crate::Tier;

/// The number of entries and the sum of their ages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The number of entries.
    pub count: u64,
    age_seconds: u64,
}

impl Freshness {
    fn add(&mut self, age: Duration) {
        self.count += 1;
        self.age_seconds += age.as_secs();
    }

    /// Returns their mean age in seconds, 0 without entries.
    pub const fn avg_age_seconds(&self) -> u64 {
        match self.age_seconds.checked_div(self.count) {
            Some(mean) => mean,
            None => 0,
        }
    }
}

/// The entries counted so far, by the tiers that they are young enough for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// All entries.
    pub all: Freshness,
    /// Their total size in bytes.
    pub bytes: u64,
    by_tier: [Freshness; 3],
}

impl Census {
    /// Counts an entry of this age and size.
    pub fn add(&mut self, age: Duration, bytes: u64) {
        self.all.add(age);
        self.bytes += bytes;
        for (tier, fresh) in Tier::ALL.iter().zip(&mut self.by_tier) {
            if age <= tier.max_profile_age() {
                fresh.add(age);
            }
        }
    }

    /// Returns the entries that are young enough for `tier`.
    pub fn fresh_for(&self, tier: Tier) -> Freshness {
        Tier::ALL.iter().zip(self.by_tier).find(|(of, _)| **of == tier).map(|(_, fresh)| fresh).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_count_for_every_tier_that_they_are_young_enough_for() {
        let mut census = Census::default();
        assert_eq!((census.all.count, census.all.avg_age_seconds()), (0, 0));
        for hours in [0, 6, 7, 12, 13, 24, 25, 160] {
            census.add(Duration::from_hours(hours), 1000);
        }
        assert_eq!((census.all.count, census.bytes), (8, 8000));
        assert_eq!(Tier::ALL.map(|tier| census.fresh_for(tier).count), [6, 4, 2]);
        assert_eq!(census.fresh_for(Tier::Xray).avg_age_seconds(), 3 * 3600);
        assert_eq!(census.all.avg_age_seconds(), 247 * 3600 / 8);
    }
}
