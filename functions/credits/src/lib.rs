//! Credits: balance, ledger, price and purchase.

mod get_balance;
mod get_pricing;
mod list_transactions;
mod purchase_credits;

pub use get_balance::get_balance;
pub use get_pricing::get_pricing;
pub use list_transactions::list_transactions;
pub use purchase_credits::{Checkout, PurchaseConfig, purchase_credits};

use oslira_http::openapi::Api;

/// Describes the endpoints of this feature.
pub fn describe(api: &mut Api) {
    api.feature("Credits", "Credits: balance, ledger, price and purchase.");
    get_balance::describe(api);
    list_transactions::describe(api);
    get_pricing::describe(api);
    purchase_credits::describe(api);
}
