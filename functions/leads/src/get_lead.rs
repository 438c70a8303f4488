//! `GET /api/leads/{leadId}`

use oslira_db::UserDb;
use oslira_db::leads::LeadDetail;
use oslira_domain::LeadId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request, endpoint, errors};

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).path::<LeadId>("leadId").limited(&[GENERAL]).responds::<LeadDetail>(200).refuses(&errors::LEAD_NOT_FOUND).end();
}

/// Returns a lead with its profile, the number of its analyses and the latest analysis.
#[endpoint(GET, "/api/leads/{leadId}")]
pub async fn get_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    let found = db.lead(&caller.claims(), caller.requested_account, lead).await?;
    Reply::ok(&found.ok_or(&errors::LEAD_NOT_FOUND)?)
}
