//! `GET /api/business-profiles/{profileId}`

use oslira_db::UserDb;
use oslira_domain::BusinessProfileId;
use oslira_http::{Problem, Reply, Request};

/// A business profile with its context, and how many leads and analyses hang on it.
///
/// # Errors
/// `NOT_FOUND` 404, also for somebody else's.
pub async fn get_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let profile: BusinessProfileId = request.path("profileId")?;
    let caller = &request.caller;
    let found = db.business_profile(&caller.claims(), caller.account_id, profile).await?;
    Reply::ok(&found.ok_or_else(|| Problem::not_found("Business profile"))?)
}
