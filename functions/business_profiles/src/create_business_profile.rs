//! `POST /api/business-profiles`

use http::StatusCode;
use oslira_db::UserDb;
use oslira_http::{Fields, FromFields, Problem, Reply, Request, words};
use serde_json::{Map, Value, json};

use crate::fields::{ContextPack, own_fields};

/// A new business.
#[derive(Debug)]
struct NewProfile(Map<String, Value>);

impl FromFields for NewProfile {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("business_name", words(1, 200));
        let mut own = own_fields(fields);
        let pack = fields.required_object::<ContextPack>("business_context_pack");
        if let Some(pack) = &pack
            && pack.0.get("target_audience").is_none_or(Value::is_null)
        {
            fields.missing("business_context_pack.target_audience");
        }
        own.insert("business_name".to_owned(), Value::from(name?));
        own.insert("business_context_pack".to_owned(), Value::Object(pack?.0));
        Some(Self(own))
    }
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
            let details = json!({ "plan": written.plan, "limit": written.limit });
            Err(Problem::new(StatusCode::FORBIDDEN, "PLAN_LIMIT", message).with_details(details))
        }
        ("forbidden", _) => Err(Problem::forbidden("Viewers cannot create business profiles.")),
        (outcome, _) => Err(Problem::internal(format!("unexpected outcome {outcome}"))),
    }
}
