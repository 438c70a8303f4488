//! `GET /api/business-profiles`

use oslira_db::{Slice, UserDb};
use oslira_http::{Fields, FromFields, Paging, Problem, Reply, Request};

/// Which page.
#[derive(Debug)]
struct ListProfiles(Paging);

impl FromFields for ListProfiles {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        Paging::from_fields(fields, 20, 50).map(Self)
    }
}

/// Lists the account's business profiles, newest first, each with how many leads and analyses hang on it.
///
/// # Errors
/// `VALIDATION_ERROR` 400; `NO_ACCOUNTS` and `FORBIDDEN` 403.
pub async fn list_business_profiles(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListProfiles(paging) = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.business_profiles(&caller.claims(), caller.account_id, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.account_id))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
