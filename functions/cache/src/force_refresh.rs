//! `POST /api/leads/{leadId}/force-refresh`

use oslira_aws::limits::FORCED_REFRESHES;
use oslira_aws::profiles::Profiles;
use oslira_db::UserDb;
use oslira_domain::{LeadId, Username};
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Gateway, Problem, Reply, Request};
use schemars::JsonSchema;
use serde::Serialize;

use crate::lead::lead;

/// What was dropped, and what to do with it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DroppedProfile")]
struct Dropped {
    lead_id: LeadId,
    username: Username,
    cache_invalidated: bool,
    message: String,
    next_steps: &'static str,
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("force_refresh.rs"))
        .path::<LeadId>("leadId")
        .limited(&[GENERAL, FORCED_REFRESHES])
        .answers::<Dropped>(200)
        .not_for_viewers()
        .not_found("lead")
        .end();
}

/// Drops the cached profile of a lead, so that its next analysis fetches it anew. Runs at work keep the copy that they started with.
///
/// All tenants share the cache: whoever analyses the handle next waits for the scrape, and we pay for it. That is why an account may do
/// this ten times an hour.
///
/// # Errors
/// `NOT_FOUND` 404, also for somebody else's lead; `FORBIDDEN` 403 for a viewer; `RATE_LIMIT_EXCEEDED` 429 above ten an hour and account.
pub async fn force_refresh(request: Request, gateway: Gateway, db: UserDb, profiles: Profiles) -> Result<Reply, Problem> {
    let (lead_id, lead) = lead(&request, &gateway, &db).await?;
    let standing = gateway.count(FORCED_REFRESHES, &lead.account_id.to_string(), 1).await?;
    profiles.drop_entry(&lead.username).await?;
    let reply = Reply::ok(&Dropped {
        lead_id,
        message: format!("The cached profile of @{} is gone.", lead.username),
        username: lead.username,
        cache_invalidated: true,
        next_steps: "Analyze the lead again: its profile will be fetched anew.",
    })?;
    Ok(reply.with_limit(standing))
}
