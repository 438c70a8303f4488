//! `PUT /api/business-profiles/{profileId}`

use oslira_db::UserDb;
use oslira_db::business_profiles::BusinessProfileDetail;
use oslira_domain::BusinessProfileId;
use oslira_http::openapi::Api;
use oslira_http::{Fault, Fields, FromFields, GENERAL, Problem, Reply, Request, words};
use serde_json::{Map, Value};

use crate::fields::{PackChange, own_fields};

/// What changes.
#[derive(Debug)]
struct Change(Map<String, Value>);

impl FromFields for Change {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let name = fields.present("business_name", words(1, 200));
        let mut own = own_fields(fields);
        let pack = fields.object::<PackChange>("business_context_pack");
        own.extend(name.map(|name| ("business_name".to_owned(), Value::from(name))));
        own.extend(pack.map(|pack| ("business_context_pack".to_owned(), Value::Object(pack.0))));
        Some(Self(own))
    }
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("update_business_profile.rs"))
        .path::<BusinessProfileId>("profileId")
        .body::<Change>()
        .limited(&[GENERAL])
        .answers::<BusinessProfileDetail>(200)
        .not_for_viewers()
        .not_found("business profile")
        .end();
}

/// Changes what is given and leaves the rest. The context pack is merged field by field in the database, so two people who change different
/// fields at once both succeed; null clears a field.
///
/// # Errors
/// `VALIDATION_ERROR` 400 with every fault, also when the range of followers that results is upside down; `NOT_FOUND` 404; `FORBIDDEN` 403
/// for a viewer.
pub async fn update_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let profile: BusinessProfileId = request.path("profileId")?;
    let Change(patch) = request.body()?;
    let caller = &request.caller;
    let written = db.update_business_profile(&caller.claims(), caller.account_id, profile, &Value::Object(patch)).await?;
    match (written.outcome.as_str(), written.profile) {
        ("updated", Some(profile)) => Reply::ok(&profile),
        ("follower_range", _) => {
            let message = "expected no less than icp_min_followers, which the profile has already";
            Err(Problem::validation(&[Fault::invalid("business_context_pack.icp_max_followers", message)]))
        }
        ("not_found", _) => Err(Problem::not_found("Business profile")),
        ("forbidden", _) => Err(Problem::forbidden("Viewers cannot change business profiles.")),
        (outcome, _) => Err(Problem::internal(format!("unexpected outcome {outcome}"))),
    }
}
