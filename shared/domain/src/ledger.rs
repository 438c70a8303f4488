//! The entries of the ledger of credits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

/// Why an entry was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, EnumString, IntoStaticStr, VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = expected_type)]
pub enum TransactionType {
    /// A grant to a new account.
    SignupBonus,
    /// A grant of a plan's credits for a period.
    SubscriptionRenewal,
    /// A grant of purchased credits.
    Purchase,
    /// The charge of an analysis.
    Analysis,
    /// The refund of an analysis without a result.
    Refund,
    /// A grant by an operator.
    AdminGrant,
    /// Credits taken back because their payment was.
    Chargeback,
}

impl TransactionType {
    /// Returns the value in the API and the database.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

fn expected_type(_: &str) -> String {
    format!("one of {}", TransactionType::VARIANTS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_match_their_json() {
        for name in TransactionType::VARIANTS {
            let known: TransactionType = name.parse().unwrap();
            assert_eq!(known.as_str(), *name);
            assert_eq!(serde_json::json!(known), *name);
        }
        let message = "one of signup_bonus, subscription_renewal, purchase, analysis, refund, admin_grant, chargeback";
        assert_eq!("gift".parse::<TransactionType>(), Err(message.to_owned()));
    }
}
