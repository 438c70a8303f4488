//! `GET /api/business-profiles/{profileId}`

use oslira_db::UserDb;
use oslira_db::business_profiles::BusinessProfileDetail;
use oslira_domain::BusinessProfileId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request};

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("get_business_profile.rs"))
        .path::<BusinessProfileId>("profileId")
        .limited(&[GENERAL])
        .answers::<BusinessProfileDetail>(200)
        .not_found("business profile")
        .end();
}

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
