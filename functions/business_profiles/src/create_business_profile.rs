//! `POST /api/business-profiles`

use http::StatusCode;
use oslira_db::UserDb;
use oslira_db::business_profiles::BusinessProfileDetail;
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Problem, Reply, Request, words};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::fields::{NewPack, own_fields};

/// A new business.
#[derive(Debug)]
struct NewProfile(Map<String, Value>);

impl FromFields for NewProfile {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let name = fields.required("business_name", words(1, 200));
        let mut own = own_fields(fields);
        let pack = fields.required_object::<NewPack>("business_context_pack");
        own.insert("business_name".to_owned(), Value::from(name?));
        own.insert("business_context_pack".to_owned(), Value::Object(pack?.0));
        Some(Self(own))
    }
}

/// The plan that allows no more.
#[derive(Serialize, JsonSchema)]
struct PlanLimit {
    plan: Option<String>,
    limit: Option<i64>,
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("create_business_profile.rs"))
        .body::<NewProfile>()
        .limited(&[GENERAL])
        .answers::<BusinessProfileDetail>(201)
        .needs_account()
        .not_for_viewers()
        .refuses(403, "PLAN_LIMIT", "The plan allows no more business profiles.")
        .details::<PlanLimit>()
        .end();
}

/// Creates a business profile, whose context leads are judged by; 201.
///
/// # Errors
/// `VALIDATION_ERROR` 400 with every fault; `PLAN_LIMIT` 403 when the plan allows no more; `FORBIDDEN` 403 for a viewer.
pub async fn create_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let NewProfile(fields) = request.body()?;
    let caller = &request.caller;
    let written = db.create_business_profile(&caller.claims(), caller.account_id, &Value::Object(fields)).await?;
    match (written.outcome.as_str(), written.profile) {
        ("created", Some(profile)) => Reply::created(&profile),
        ("no_account", _) => Err(Problem::no_account(caller.account_id)),
        ("plan_limit", _) => {
            let message = format!(
                "Your plan's limit of business profiles is reached ({}). Upgrade to add another.",
                written.limit.unwrap_or_default()
            );
            let details = json!(PlanLimit { plan: written.plan, limit: written.limit });
            Err(Problem::new(StatusCode::FORBIDDEN, "PLAN_LIMIT", message).with_details(details))
        }
        ("forbidden", _) => Err(Problem::forbidden("Viewers cannot create business profiles.")),
        (outcome, _) => Err(Problem::internal(format!("unexpected outcome {outcome}"))),
    }
}
