//! `GET /api/business-profiles/{profileId}`

use oslira_db::UserDb;
use oslira_db::business_profiles::BusinessProfileDetail;
use oslira_domain::BusinessProfileId;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request, endpoint, errors};

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<BusinessProfileId>("profileId")
        .limited(&[GENERAL])
        .responds::<BusinessProfileDetail>(200)
        .refuses(&errors::BUSINESS_PROFILE_NOT_FOUND)
        .end();
}

/// Returns a business profile with its context pack and the numbers of its leads and analyses.
#[endpoint(GET, "/api/business-profiles/{profileId}")]
pub async fn get_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let profile: BusinessProfileId = request.path("profileId")?;
    let caller = &request.caller;
    let found = db.business_profile(&caller.claims(), caller.requested_account, profile).await?;
    Reply::ok(&found.ok_or(&errors::BUSINESS_PROFILE_NOT_FOUND)?)
}
