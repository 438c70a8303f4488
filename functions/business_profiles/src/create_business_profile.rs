//! `POST /api/business-profiles`

use oslira_db::UserDb;
use oslira_db::business_profiles::{BusinessProfileDetail, Creation};
use oslira_http::errors::PlanLimit;
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Problem, Reply, Request, endpoint, errors, string};
use serde_json::{Map, Value};

use crate::fields::{NewPack, own_fields};

/// The body of the request: the fields of the new business profile.
#[derive(Debug)]
struct NewProfile(Map<String, Value>);

impl FromFields for NewProfile {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let name = fields.required("business_name", string(1, 200));
        let mut own = own_fields(fields);
        let pack = fields.required_object::<NewPack>("business_context_pack");
        own.insert("business_name".to_owned(), Value::from(name?));
        own.insert("business_context_pack".to_owned(), Value::Object(pack?.0));
        Some(Self(own))
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .body::<NewProfile>()
        .limited(&[GENERAL])
        .responds::<BusinessProfileDetail>(201)
        .requires_account()
        .refuses(&errors::READ_ONLY)
        .refuses(&errors::PLAN_LIMIT)
        .end();
}

/// Creates a business profile. Its context pack states what leads are judged by. Requires at least the role `member`.
#[endpoint(POST, "/api/business-profiles")]
pub async fn create_business_profile(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let NewProfile(fields) = request.body()?;
    let caller = &request.caller;
    match db.create_business_profile(&caller.claims(), caller.requested_account, &Value::Object(fields)).await? {
        Creation::Created { profile } => Reply::created(&profile),
        Creation::NoAccount => Err(Problem::no_account(caller.requested_account)),
        Creation::Forbidden => Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot create business profiles.")),
        Creation::PlanLimit { plan, limit } => {
            let message = format!("Your plan's limit of business profiles is reached ({limit}). Upgrade to add another.");
            Err(Problem::with_details(&errors::PLAN_LIMIT, &PlanLimit { plan, limit: Some(limit) }).message(message))
        }
    }
}
