//! Balances, the ledger, and the start of a purchase.

use jiff::Timestamp;
use oslira_domain::{AccountId, RunId, TransactionType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::error::DbError;
use crate::idempotency::{Claim, Key};
use crate::listing::{Listed, Slice};
use crate::params::params;
use crate::session::{Claims, UserDb};

/// The balance of an account.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub struct Balance {
    account_id: AccountId,
    current_balance: i32,
    /// Credits that returned payments still have to take back. Every later grant and refund pays them first.
    open_shortfall: i32,
    /// Since when a payment is disputed that is not decided yet. Nothing can be spent meanwhile.
    disputed_since: Option<Timestamp>,
    plan: Option<String>,
    last_transaction_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
}

/// An entry of the ledger.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LedgerEntry {
    id: Uuid,
    account_id: AccountId,
    entry_no: i64,
    amount: i32,
    balance_after: i32,
    transaction_type: TransactionType,
    #[schemars(with = "Option<RunId>")]
    run_id: Option<String>,
    description: Option<String>,
    #[schemars(with = "serde_json::Map<String, Value>")]
    metadata: Value,
    /// Who caused the entry: `user:<id>`, `stripe:<event>`, `operator:<name>`, or `system`.
    created_by: String,
    created_at: Timestamp,
}

/// An account that buys credits.
#[derive(Debug, Deserialize)]
pub struct Buyer {
    /// The account.
    pub account_id: AccountId,
    /// Its customer at Stripe, if it has one.
    pub customer: Option<String>,
    /// The address of its owner.
    pub email: Option<String>,
}

/// Whether a purchase may start.
#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum PurchaseStart {
    /// The caller may buy.
    Ready {
        /// The account that pays and gets the credits.
        buyer: Buyer,
        /// Whether the purchase is this request's to carry out. The id of its work identifies the purchase at Stripe.
        claim: Claim,
    },
    /// The caller has no such account.
    NoAccount,
    /// The caller may not spend for it.
    Forbidden,
}

impl UserDb {
    /// Reads the account's balance; zeros before its first entry. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn balance(&self, claims: &Claims, account: Option<AccountId>) -> Result<Option<Balance>, DbError> {
        let sql = "SELECT jsonb_build_object('account_id', c.account_id, 'current_balance', coalesce(b.current_balance, 0),
                'open_shortfall', coalesce(b.open_shortfall, 0), 'disputed_since', b.disputed_since,
                'last_transaction_at', b.last_transaction_at, 'created_at', b.created_at, 'updated_at', b.updated_at,
                'plan', (SELECT s.plan_id FROM subscriptions s JOIN plans p ON p.id = s.plan_id
                         WHERE s.account_id = c.account_id AND s.status IN ('active', 'trialing', 'past_due')
                         ORDER BY p.credits_per_month DESC, p.id LIMIT 1))
            FROM caller_account($1) c LEFT JOIN credit_balances b ON b.account_id = c.account_id";
        self.call(claims, sql, &params![account]).await
    }

    /// Reads a page of the account's ledger, newest first. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn transactions(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        transaction_type: Option<TransactionType>,
        slice: Slice,
    ) -> Result<Option<Listed<LedgerEntry>>, DbError> {
        let mut conditions = "l.account_id = (SELECT account_id FROM caller)".to_owned();
        if transaction_type.is_some() {
            conditions.push_str(" AND l.transaction_type = $4");
        }
        if slice.as_of.is_some() {
            conditions.push_str(" AND l.created_at <= $5");
        }
        let sql = format!(
            "WITH caller AS MATERIALIZED (SELECT account_id FROM caller_account($1))
             SELECT jsonb_build_object('account_id', caller.account_id, 'as_of', clock_timestamp(),
                        'total', (SELECT count(*) FROM credit_ledger l WHERE {conditions}),
                        'rows', (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.entry_no DESC), '[]') FROM (
                            SELECT l.* FROM credit_ledger l WHERE {conditions} ORDER BY l.entry_no DESC LIMIT $2 OFFSET $3) x)),
                    $4::text, $5::timestamptz
             FROM caller"
        );
        self.call(claims, &sql, &params![account, slice.limit, slice.offset, transaction_type, slice.as_of]).await
    }

    /// Starts a purchase: finds the account that pays, and claims the request's key, if it has one. `work_id` identifies the purchase at
    /// Stripe, unless the key already stands for another.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn begin_purchase(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        key: Option<Key<'_>>,
        work_id: &str,
    ) -> Result<PurchaseStart, DbError> {
        let (name, hash) = (key.map(|key| key.name), key.map(|key| key.request_hash));
        self.call(claims, "SELECT begin_purchase($1, $2, $3, $4)", &params![account, name, hash, work_id]).await
    }
}
