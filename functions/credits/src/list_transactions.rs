//! `GET /api/credits/transactions`

use oslira_db::{Slice, UserDb};
use oslira_http::{Fields, FromFields, Paging, Problem, Reply, Request};
use serde_json::Value;

const TYPES: [&str; 7] = ["signup_bonus", "subscription_renewal", "purchase", "analysis", "refund", "admin_grant", "chargeback"];

/// Of which type, which page.
#[derive(Debug)]
struct ListTransactions {
    transaction_type: Option<&'static str>,
    paging: Paging,
}

impl FromFields for ListTransactions {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let known = |value: &Value| {
            let found = TYPES.into_iter().find(|known| value.as_str() == Some(known));
            found.ok_or_else(|| format!("expected one of {}", TYPES.join(", ")))
        };
        let transaction_type = fields.optional("transactionType", known);
        Some(Self { transaction_type, paging: Paging::from_fields(fields, 50, 100)? })
    }
}

/// Lists the account's ledger, newest first: every grant (positive) and debit (negative) with the balance after it.
///
/// # Errors
/// `VALIDATION_ERROR` 400 with every fault; `NO_ACCOUNTS` and `FORBIDDEN` 403.
pub async fn list_transactions(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListTransactions { transaction_type, paging } = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.transactions(&caller.claims(), caller.account_id, transaction_type, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.account_id))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
