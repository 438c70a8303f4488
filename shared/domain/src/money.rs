//! Amounts as integers with their unit in the type.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// An integer number of credits. In the ledger, a negative number is a debit and a positive one a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(pub i32);

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Millionths of a US dollar, for the cost of vendors. A question of the tier `light` costs a few hundred of them, less than a cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// No cost.
    pub const ZERO: Self = Self(0);

    /// Converts an amount in US dollars, rounded to the nearest millionth. Infinities and NaN become zero.
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and NaN becomes 0")]
    pub fn from_usd(usd: f64) -> Self {
        Self((usd * 1e6).round() as i64)
    }
}

impl Add for MicroUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, amount) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}${}.{:06}", amount / 1_000_000, amount % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_become_millionths() {
        assert_eq!(MicroUsd::from_usd(0.0023), MicroUsd(2300));
        assert_eq!(MicroUsd::from_usd(f64::NAN), MicroUsd::ZERO);
    }

    #[test]
    fn amounts_add_up_and_display_as_dollars() {
        let sum: MicroUsd = [MicroUsd(1_500_000), MicroUsd(42)].into_iter().sum();
        assert_eq!(sum.to_string(), "$1.500042");
        assert_eq!(MicroUsd(-7).to_string(), "-$0.000007");
        assert_eq!(Credits(-3).to_string(), "-3");
    }
}
