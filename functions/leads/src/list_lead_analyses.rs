//! `GET /api/leads/{leadId}/analyses`

use oslira_db::UserDb;
use oslira_domain::{LeadId, Tier};
use oslira_http::{Fields, FromFields, Problem, Reply, Request, digits, text};

/// How many, of which tier.
#[derive(Debug)]
struct ListAnalyses {
    limit: i64,
    tier: Option<Tier>,
}

impl FromFields for ListAnalyses {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let (limit, tier) = (fields.optional("limit", digits(1, 50)), fields.optional("analysisType", text));
        Some(Self { limit: limit.unwrap_or(10), tier })
    }
}

/// The analyses of a lead, newest first. The whole result of each is at `/api/analysis/{runId}/result`.
///
/// # Errors
/// `VALIDATION_ERROR` 400; `NOT_FOUND` 404 if the lead is deleted or somebody else's.
pub async fn list_lead_analyses(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let ListAnalyses { limit, tier } = request.query()?;
    let caller = &request.caller;
    let found = db.lead_analyses(&caller.claims(), caller.account_id, lead, tier, limit).await?;
    Reply::ok(&found.ok_or_else(|| Problem::not_found("Lead"))?)
}
