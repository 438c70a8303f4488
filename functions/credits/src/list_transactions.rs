//! `GET /api/credits/transactions`

use oslira_db::credits::LedgerEntry;
use oslira_db::{Slice, UserDb};
use oslira_domain::TransactionType;
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request, text};

/// Of which type, which page.
#[derive(Debug)]
struct ListTransactions {
    transaction_type: Option<TransactionType>,
    paging: Paging,
}

impl FromFields for ListTransactions {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let transaction_type = fields.optional("transactionType", text());
        Some(Self { transaction_type, paging: Paging::from_fields(fields, 50, 100)? })
    }
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("list_transactions.rs"))
        .query::<ListTransactions>()
        .field("transactionType", "Only entries of this type.")
        .limited(&[GENERAL])
        .answers_page::<LedgerEntry>()
        .needs_account()
        .end();
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
