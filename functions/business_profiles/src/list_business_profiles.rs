//! `GET /api/business-profiles`

use oslira_db::business_profiles::BusinessProfileSummary;
use oslira_db::{Slice, UserDb};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request, endpoint};

/// The parameters of the query.
#[derive(Debug)]
struct ListProfiles(Paging);

impl FromFields for ListProfiles {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        Paging::from_fields(fields, 20, 50).map(Self)
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).query::<ListProfiles>().limited(&[GENERAL]).responds_with_page::<BusinessProfileSummary>().requires_account().end();
}

/// Lists the account's business profiles, newest first, each with the numbers of its leads and analyses.
#[endpoint(GET, "/api/business-profiles")]
pub async fn list_business_profiles(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListProfiles(paging) = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.business_profiles(&caller.claims(), caller.requested_account, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
