//! Balances, the ledger, and what a purchase needs.

use jiff::Timestamp;
use oslira_domain::{AccountId, RunId, TransactionType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::types::{Json, Type};
use uuid::Uuid;

use crate::error::DbError;
use crate::listing::{Listed, Slice, listed};
use crate::session::{Claims, Param, UserDb};

/// What an account has.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub struct Balance {
    account_id: AccountId,
    current_balance: i32,
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
    created_by: Option<Uuid>,
    created_at: Timestamp,
}

/// Whether a purchase may go on, and for whom.
#[derive(Debug, Deserialize)]
pub struct PurchaseStart {
    /// `claimed`, `replay`, `mismatch`, `in_progress`, `no_account` or `forbidden`.
    pub outcome: String,
    /// Who pays and gets the credits.
    pub account_id: Option<AccountId>,
    /// Its customer at Stripe, if it has one.
    pub customer: Option<String>,
    /// Its owner's address.
    pub email: Option<String>,
    /// What identifies this work at Stripe.
    pub work_id: Option<String>,
    /// The first answer, to be repeated.
    pub answer: Option<String>,
}

impl UserDb {
    /// The account's balance; zeros before its first entry. `None` if the caller has no such account.
    ///
    /// # Errors
    /// As any statement.
    pub async fn balance(&self, claims: &Claims, account: Option<AccountId>) -> Result<Option<Balance>, DbError> {
        let rows = self
            .query(
                claims,
                "SELECT jsonb_build_object('account_id', c.account_id, 'current_balance', coalesce(b.current_balance, 0),
                            'last_transaction_at', b.last_transaction_at, 'created_at', b.created_at, 'updated_at', b.updated_at,
                            'plan', (SELECT s.plan_id FROM subscriptions s JOIN plans p ON p.id = s.plan_id
                                     WHERE s.account_id = c.account_id AND s.status IN ('active', 'trialing', 'past_due')
                                     ORDER BY p.credits_per_month DESC, p.id LIMIT 1))
                 FROM caller_account($1) c LEFT JOIN credit_balances b ON b.account_id = c.account_id",
                &[(&account.map(|id| id.0), Type::UUID)],
            )
            .await?;
        rows.first().map(|row| Ok(row.try_get::<_, Json<Balance>>(0)?.0)).transpose()
    }

    /// A page of the account's ledger, newest first. `None` if the caller has no such account.
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
        let transaction_type = transaction_type.map(TransactionType::as_str);
        let mut conditions = "l.account_id = (SELECT account_id FROM caller)".to_owned();
        if transaction_type.is_some() {
            conditions.push_str(" AND l.transaction_type = $4");
        }
        if slice.as_of.is_some() {
            conditions.push_str(" AND l.created_at <= $5");
        }
        let sql = format!(
            "WITH caller AS MATERIALIZED (SELECT account_id FROM caller_account($1))
             SELECT (SELECT account_id FROM caller) AS account_id, clock_timestamp() AS as_of,
                    (SELECT count(*) FROM credit_ledger l WHERE {conditions}) AS total,
                    (SELECT coalesce(jsonb_agg(to_jsonb(x) ORDER BY x.entry_no DESC), '[]') FROM (
                        SELECT l.* FROM credit_ledger l WHERE {conditions} ORDER BY l.entry_no DESC LIMIT $2 OFFSET $3) x) AS rows,
                    $4::text, $5::timestamptz"
        );
        let params: [Param<'_>; 5] = [
            (&account.map(|id| id.0), Type::UUID),
            (&slice.limit, Type::INT8),
            (&slice.offset, Type::INT8),
            (&transaction_type, Type::TEXT),
            (&slice.as_of, Type::TIMESTAMPTZ),
        ];
        listed(&self.query(claims, &sql, &params).await?)
    }

    /// Begins a purchase: who buys, and the claim of the request's key, if it has one. `work_id` is what the purchase will be known by at
    /// Stripe, unless the key has one already.
    ///
    /// # Errors
    /// As any statement; refusals are outcomes, not errors.
    pub async fn begin_purchase(
        &self,
        claims: &Claims,
        account: Option<AccountId>,
        key: Option<(&str, &str)>,
        work_id: &str,
    ) -> Result<PurchaseStart, DbError> {
        let (key, hash) = key.unzip();
        let params: [Param<'_>; 4] =
            [(&account.map(|id| id.0), Type::UUID), (&key, Type::TEXT), (&hash, Type::TEXT), (&work_id, Type::TEXT)];
        self.call(claims, "SELECT begin_purchase($1, $2, $3, $4)", &params).await
    }
}
