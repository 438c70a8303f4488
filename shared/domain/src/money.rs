//! Amounts as integers with their unit in the type.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

/// Credits, whole. In the ledger negative is a debit and positive a grant, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credits(pub i32);

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Millionths of a US dollar: what vendors cost us. A LIGHT call costs a few hundred of these, which cents cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub i64);

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount that a vendor states in US dollars, rounded to the nearest millionth. What is no finite number is zero.
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
    fn vendor_dollars_become_whole_millionths() {
        assert_eq!(MicroUsd::from_usd(0.0023), MicroUsd(2300));
        assert_eq!(MicroUsd::from_usd(f64::NAN), MicroUsd::ZERO);
    }

    #[test]
    fn amounts_add_up_and_read_as_dollars() {
        let sum: MicroUsd = [MicroUsd(1_500_000), MicroUsd(42)].into_iter().sum();
        assert_eq!(sum.to_string(), "$1.500042");
        assert_eq!(MicroUsd(-7).to_string(), "-$0.000007");
        assert_eq!(Credits(-3).to_string(), "-3");
    }
}
