//! `DELETE /api/leads/{leadId}`

use oslira_db::UserDb;
use oslira_db::leads::Deletion;
use oslira_domain::LeadId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request};

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("delete_lead.rs"))
        .path::<LeadId>("leadId")
        .limited(&[GENERAL])
        .answers_nothing()
        .not_for_viewers()
        .not_found("lead")
        .end();
}

/// Deletes a lead and its analyses; 204. They can be restored for 30 days, and the handle can be analysed again at once.
///
/// # Errors
/// `NOT_FOUND` 404, also the second time; `FORBIDDEN` 403 for a viewer.
pub async fn delete_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    match db.delete_lead(&caller.claims(), caller.account_id, lead).await? {
        Deletion::Deleted => Ok(Reply::no_content()),
        Deletion::NotFound => Err(Problem::not_found("Lead")),
        Deletion::Forbidden => Err(Problem::forbidden("Viewers cannot delete leads.")),
    }
}
