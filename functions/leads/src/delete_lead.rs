//! `DELETE /api/leads/{leadId}`

use oslira_db::UserDb;
use oslira_db::leads::Deletion;
use oslira_domain::LeadId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request, endpoint, errors};

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<LeadId>("leadId")
        .limited(&[GENERAL])
        .responds_with_no_content()
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::LEAD_NOT_FOUND)
        .end();
}

/// Deletes a lead and its analyses. They can be restored for 30 days, and the handle can be analyzed again at once. A second request for
/// the same lead responds with `NOT_FOUND`. Requires at least the role `member`.
#[endpoint(DELETE, "/api/leads/{leadId}")]
pub async fn delete_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    match db.delete_lead(&caller.claims(), caller.requested_account, lead).await? {
        Deletion::Deleted => Ok(Reply::no_content()),
        Deletion::NotFound => Err(Problem::of(&errors::LEAD_NOT_FOUND)),
        Deletion::Forbidden => Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot delete leads.")),
    }
}
