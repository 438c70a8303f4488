//! `GET /api/leads/{leadId}/analyses`

use oslira_db::UserDb;
use oslira_db::leads::LeadAnalysis;
use oslira_domain::{LeadId, Tier};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Problem, Reply, Request, digits, text};

/// How many, of which tier.
#[derive(Debug)]
struct ListAnalyses {
    limit: i64,
    tier: Option<Tier>,
}

impl FromFields for ListAnalyses {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let (limit, tier) = (fields.or("limit", digits(1, 50), 10), fields.optional("analysisType", text()));
        Some(Self { limit, tier })
    }
}

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("list_lead_analyses.rs"))
        .path::<LeadId>("leadId")
        .query::<ListAnalyses>()
        .field("limit", "How many at most.")
        .field("analysisType", "Only those of this tier.")
        .limited(&[GENERAL])
        .answers::<Vec<LeadAnalysis>>(200)
        .not_found("lead")
        .end();
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
