//! The price of credits in a pack, in integer cents.

use schemars::JsonSchema;
use serde::Serialize;

/// The fewest credits that can be bought at once.
pub const MIN_PURCHASE: i32 = 10;
/// The most credits that can be bought at once.
pub const MAX_PURCHASE: i32 = 10_000;
/// The price of one credit without discount, in cents.
pub const CENTS_A_CREDIT: i64 = 97;

/// A discount and the number of credits that it begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BulkDiscount {
    /// The smallest number of credits with this discount.
    pub min: i32,
    /// The discount, in percent.
    pub percent: i64,
}

/// The discounts, smallest first. The best one that a purchase reaches applies to all of its credits.
pub const BULK_DISCOUNTS: [BulkDiscount; 3] =
    [BulkDiscount { min: 100, percent: 5 }, BulkDiscount { min: 500, percent: 10 }, BulkDiscount { min: 1000, percent: 15 }];

/// The price of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Quote {
    /// The number of credits.
    pub amount: i32,
    /// The price without the discount, in cents.
    pub subtotal_cents: i64,
    /// The discount, in percent.
    pub discount_percent: i64,
    /// The discount, in cents.
    pub discount_cents: i64,
    /// The price with the discount, in cents.
    pub total_cents: i64,
    /// The price of one credit in millionths of a dollar, because a discounted credit may not cost an integer number of cents.
    pub per_credit_micro_usd: i64,
}

impl Quote {
    /// Returns the price of this number of credits. `None` outside 10 to 10,000.
    pub fn of(amount: i32) -> Option<Self> {
        if !(MIN_PURCHASE..=MAX_PURCHASE).contains(&amount) {
            return None;
        }
        let percent = BULK_DISCOUNTS.iter().rev().find(|discount| amount >= discount.min).map_or(0, |discount| discount.percent);
        let subtotal_cents = i64::from(amount) * CENTS_A_CREDIT;
        // Half a cent is rounded in the customer's favor.
        let discount_cents = (subtotal_cents * percent + 50) / 100;
        Some(Self {
            amount,
            subtotal_cents,
            discount_percent: percent,
            discount_cents,
            total_cents: subtotal_cents - discount_cents,
            per_credit_micro_usd: CENTS_A_CREDIT * 100 * (100 - percent),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_discount_rises_at_its_steps() {
        let total = |amount| Quote::of(amount).map(|quote| (quote.total_cents, quote.discount_percent));
        assert_eq!(total(9), None);
        assert_eq!(total(10), Some((970, 0)));
        assert_eq!(total(99), Some((9603, 0)));
        assert_eq!(total(100), Some((9215, 5)));
        assert_eq!(total(499), Some((45_983, 5)));
        assert_eq!(total(500), Some((43_650, 10)));
        assert_eq!(total(999), Some((87_213, 10)));
        assert_eq!(total(1000), Some((82_450, 15)));
        assert_eq!(total(10_000), Some((824_500, 15)));
        assert_eq!(total(10_001), None);
        assert_eq!(Quote::of(100).map(|quote| quote.per_credit_micro_usd), Some(921_500));
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_cent(amount in MIN_PURCHASE..=MAX_PURCHASE) {
            let quote = Quote::of(amount).unwrap();
            prop_assert_eq!(quote.subtotal_cents - quote.discount_cents, quote.total_cents);
            let exact = i128::from(quote.per_credit_micro_usd) * i128::from(amount);
            prop_assert!((exact - i128::from(quote.total_cents) * 10_000).abs() <= 5_000);
        }
    }
}
