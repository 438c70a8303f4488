//! `POST /api/leads/{leadId}/restore`

use http::StatusCode;
use oslira_db::UserDb;
use oslira_domain::LeadId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

/// A lead that is back.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RestoredLead")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct Restored {
    lead_id: Option<LeadId>,
    instagram_username: Option<String>,
    analyses_restored: i64,
    message: &'static str,
}

/// The lead that is in the way.
#[derive(Serialize, JsonSchema)]
struct LiveLead {
    lead_id: Option<LeadId>,
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("restore_lead.rs"))
        .path::<LeadId>("leadId")
        .limited(&[GENERAL])
        .answers::<Restored>(200)
        .not_for_viewers()
        .not_found("lead")
        .refuses(409, "LEAD_EXISTS", "The handle was analysed again meanwhile.")
        .details::<LiveLead>()
        .end();
}

/// Brings back a lead that was deleted within 30 days, with the analyses that went with it. Restoring a live lead changes nothing.
///
/// # Errors
/// `NOT_FOUND` 404, also after 30 days; `FORBIDDEN` 403 for a viewer; `LEAD_EXISTS` 409 if the handle was analysed again meanwhile, with
/// the live lead.
pub async fn restore_lead(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    let restored = db.restore_lead(&caller.claims(), caller.account_id, lead).await?;
    match restored.outcome.as_str() {
        "restored" => Reply::ok(&Restored {
            lead_id: restored.lead_id,
            instagram_username: restored.username,
            analyses_restored: restored.analyses_restored,
            message: "The lead is back.",
        }),
        "forbidden" => Err(Problem::forbidden("Viewers cannot restore leads.")),
        "conflict" => {
            let message = format!("@{} is a lead again already. Delete that one first.", restored.username.unwrap_or_default());
            Err(Problem::new(StatusCode::CONFLICT, "LEAD_EXISTS", message).with_details(json!(LiveLead { lead_id: restored.lead_id })))
        }
        _ => Err(Problem::not_found("Lead")),
    }
}
