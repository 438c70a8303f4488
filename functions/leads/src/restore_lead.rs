//! `POST /api/leads/{leadId}/restore`

use oslira_db::UserDb;
use oslira_db::leads::Restoration;
use oslira_domain::LeadId;
use oslira_http::errors::LiveLead;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

/// A restored lead.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RestoredLead")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct Restored {
    lead_id: Option<LeadId>,
    instagram_username: Option<String>,
    analyses_restored: i64,
    message: &'static str,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<LeadId>("leadId")
        .limited(&[GENERAL])
        .responds::<Restored>(200)
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::LEAD_NOT_FOUND)
        .refuses(&errors::LEAD_EXISTS)
        .end();
}

/// Restores a lead that was deleted within 30 days, with the analyses that were deleted with it. Restoring a lead that is not deleted
/// changes nothing. Requires at least the role `member`.
#[endpoint(POST, "/api/leads/{leadId}/restore")]
pub async fn restore_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    match db.restore_lead(&caller.claims(), caller.requested_account, lead).await? {
        Restoration::Restored { lead_id, username, analyses_restored } => Reply::ok(&Restored {
            lead_id: Some(lead_id),
            instagram_username: Some(username),
            analyses_restored,
            message: "The lead was restored.",
        }),
        Restoration::NotFound => Err(Problem::of(&errors::LEAD_NOT_FOUND)),
        Restoration::Forbidden => Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot restore leads.")),
        Restoration::Conflict { lead_id, username } => {
            let message = format!("@{username} is already a lead again. Delete that lead first.");
            Err(Problem::with_details(&errors::LEAD_EXISTS, &LiveLead { lead_id }).message(message))
        }
    }
}
