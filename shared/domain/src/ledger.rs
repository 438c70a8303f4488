//! What the ledger of credits records.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why credits came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionType {
    /// Given to a new account.
    SignupBonus,
    /// A plan's credits for a period.
    SubscriptionRenewal,
    /// Bought.
    Purchase,
    /// Spent on an analysis.
    Analysis,
    /// Given back for an analysis without a result.
    Refund,
    /// Given by hand.
    AdminGrant,
    /// Taken back with a payment that was.
    Chargeback,
}

impl TransactionType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::SignupBonus, Self::SubscriptionRenewal, Self::Purchase, Self::Analysis, Self::Refund, Self::AdminGrant, Self::Chargeback];

    /// The word in the API and the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignupBonus => "signup_bonus",
            Self::SubscriptionRenewal => "subscription_renewal",
            Self::Purchase => "purchase",
            Self::Analysis => "analysis",
            Self::Refund => "refund",
            Self::AdminGrant => "admin_grant",
            Self::Chargeback => "chargeback",
        }
    }
}

impl FromStr for TransactionType {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_parse_back_and_match_their_json() {
        for known in TransactionType::ALL {
            assert_eq!(known.as_str().parse(), Ok(known));
            assert_eq!(serde_json::json!(known), known.as_str());
        }
        let message = "one of signup_bonus, subscription_renewal, purchase, analysis, refund, admin_grant, chargeback";
        assert_eq!("gift".parse::<TransactionType>(), Err(message.to_owned()));
    }
}
