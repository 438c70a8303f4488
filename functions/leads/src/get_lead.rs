//! `GET /api/leads/{leadId}`

use oslira_db::UserDb;
use oslira_db::leads::LeadDetail;
use oslira_domain::LeadId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request};

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("get_lead.rs")).path::<LeadId>("leadId").limited(&[GENERAL]).answers::<LeadDetail>(200).not_found("lead").end();
}

/// A lead with its profile, how often it was analysed and its latest analysis.
///
/// # Errors
/// `NOT_FOUND` 404, also for a lead that was deleted or is somebody else's.
pub async fn get_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    let found = db.lead(&caller.claims(), caller.account_id, lead).await?;
    Reply::ok(&found.ok_or_else(|| Problem::not_found("Lead"))?)
}
