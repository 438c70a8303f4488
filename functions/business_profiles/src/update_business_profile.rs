//! `PUT /api/business-profiles/{profileId}`

use oslira_db::UserDb;
use oslira_db::business_profiles::{BusinessProfileDetail, Update};
use oslira_domain::BusinessProfileId;
use oslira_http::openapi::Api;
use oslira_http::{Fault, Fields, FromFields, GENERAL, Problem, Reply, Request, endpoint, errors, string};
use serde_json::{Map, Value};

use crate::fields::{PackChange, own_fields};

/// The body of the request: the fields that change.
#[derive(Debug)]
struct Change(Map<String, Value>);

impl FromFields for Change {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let name = fields.non_null("business_name", string(1, 200));
        let mut own = own_fields(fields);
        let pack = fields.object::<PackChange>("business_context_pack");
        own.extend(name.map(|name| ("business_name".to_owned(), Value::from(name))));
        own.extend(pack.map(|pack| ("business_context_pack".to_owned(), Value::Object(pack.0))));
        Some(Self(own))
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<BusinessProfileId>("profileId")
        .body::<Change>()
        .limited(&[GENERAL])
        .responds::<BusinessProfileDetail>(200)
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::BUSINESS_PROFILE_NOT_FOUND)
        .end();
}

/// Changes the given fields of a business profile and keeps the others. The context pack is merged field by field in one statement, so that
/// concurrent changes of different fields both succeed. Null clears a field. A change after which `icp_min_followers` would exceed
/// `icp_max_followers` is rejected. Requires at least the role `member`.
#[endpoint(PUT, "/api/business-profiles/{profileId}")]
pub async fn update_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let profile: BusinessProfileId = request.path("profileId")?;
    let Change(patch) = request.body()?;
    let caller = &request.caller;
    match db.update_business_profile(&caller.claims(), caller.requested_account, profile, &Value::Object(patch)).await? {
        Update::Updated { profile } => Reply::ok(&profile),
        Update::NotFound => Err(Problem::of(&errors::BUSINESS_PROFILE_NOT_FOUND)),
        Update::Forbidden => Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot change business profiles.")),
        Update::FollowerRange => {
            let message = "expected no less than the icp_min_followers of the profile";
            Err(Fault::invalid("business_context_pack.icp_max_followers", message).into())
        }
    }
}
