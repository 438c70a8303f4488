//! `GET /api/credits/transactions`

use oslira_db::credits::LedgerEntry;
use oslira_db::{Slice, UserDb};
use oslira_domain::TransactionType;
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request, endpoint, parsed};

/// The parameters of the query.
#[derive(Debug)]
struct ListTransactions {
    transaction_type: Option<TransactionType>,
    paging: Paging,
}

impl FromFields for ListTransactions {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let transaction_type = fields.optional("transactionType", parsed());
        Some(Self { transaction_type, paging: Paging::from_fields(fields, 50, 100)? })
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .query::<ListTransactions>()
        .field("transactionType", "Only entries of this type.")
        .limited(&[GENERAL])
        .responds_with_page::<LedgerEntry>()
        .requires_account()
        .end();
}

/// Lists the entries of the account's ledger, newest first: grants (positive) and debits (negative), each with the balance after it.
#[endpoint(GET, "/api/credits/transactions")]
pub async fn list_transactions(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListTransactions { transaction_type, paging } = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.transactions(&caller.claims(), caller.requested_account, transaction_type, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
