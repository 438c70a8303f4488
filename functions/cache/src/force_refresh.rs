//! `POST /api/leads/{leadId}/force-refresh`

use oslira_aws::limits::FORCED_REFRESHES;
use oslira_aws::profiles::Profiles;
use oslira_db::UserDb;
use oslira_domain::{LeadId, Username};
use oslira_http::openapi::Api;
use oslira_http::{AccessGuard, GENERAL, Problem, Reply, Request, endpoint, errors};
use schemars::JsonSchema;
use serde::Serialize;

use crate::lead::lead;

/// The removed entry, and what happens next.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DroppedProfile")]
struct Dropped {
    lead_id: LeadId,
    username: Username,
    cache_invalidated: bool,
    message: String,
    next_steps: &'static str,
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<LeadId>("leadId")
        .limited(&[GENERAL, FORCED_REFRESHES])
        .responds::<Dropped>(200)
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::LEAD_NOT_FOUND)
        .end();
}

/// Deletes the cached profile of a lead, so that the next analysis of the handle fetches it again. Live runs keep the copy that they
/// started with. Requires at least the role `member`.
#[endpoint(POST, "/api/leads/{leadId}/force-refresh")]
pub async fn force_refresh(request: Request, guard: AccessGuard, db: UserDb, profiles: Profiles) -> Result<Reply, Problem> {
    let (lead_id, lead) = lead(&request, &guard, &db).await?;
    let limit_status = guard.count(FORCED_REFRESHES, &lead.account_id.to_string(), 1).await?;
    profiles.drop_entry(&lead.username).await?;
    let reply = Reply::ok(&Dropped {
        lead_id,
        message: format!("The cached profile of @{} was deleted.", lead.username),
        username: lead.username,
        cache_invalidated: true,
        next_steps: "Analyze the lead again: its profile will be fetched again.",
    })?;
    Ok(reply.with_limit(limit_status))
}
