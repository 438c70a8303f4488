//! `GET /api/business-profiles`

use oslira_db::business_profiles::BusinessProfileSummary;
use oslira_db::{Slice, UserDb};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request};

/// Which page.
#[derive(Debug)]
struct ListProfiles(Paging);

impl FromFields for ListProfiles {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        Paging::from_fields(fields, 20, 50).map(Self)
    }
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("list_business_profiles.rs"))
        .query::<ListProfiles>()
        .limited(&[GENERAL])
        .answers_page::<BusinessProfileSummary>()
        .needs_account()
        .end();
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
