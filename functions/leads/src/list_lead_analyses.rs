//! `GET /api/leads/{leadId}/analyses`

use oslira_db::UserDb;
use oslira_db::leads::LeadAnalysis;
use oslira_domain::{LeadId, Tier};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Problem, Reply, Request, endpoint, errors, integer_param, parsed};

/// The parameters of the query.
#[derive(Debug)]
struct ListAnalyses {
    limit: i64,
    tier: Option<Tier>,
}

impl FromFields for ListAnalyses {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let limit = fields.or_default("limit", integer_param(1, 50), 10);
        let tier = fields.optional("analysisType", parsed());
        Some(Self { limit, tier })
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .path::<LeadId>("leadId")
        .query::<ListAnalyses>()
        .field("limit", "The maximum number of analyses.")
        .field("analysisType", "Only analyses of this tier.")
        .limited(&[GENERAL])
        .responds::<Vec<LeadAnalysis>>(200)
        .refuses(&errors::LEAD_NOT_FOUND)
        .end();
}

/// Lists the analyses of a lead, newest first. The complete result of each is at `/api/analysis/{runId}/result`.
#[endpoint(GET, "/api/leads/{leadId}/analyses")]
pub async fn list_lead_analyses(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let lead: LeadId = request.path("leadId")?;
    let ListAnalyses { limit, tier } = request.query()?;
    let caller = &request.caller;
    let found = db.lead_analyses(&caller.claims(), caller.requested_account, lead, tier, limit).await?;
    Reply::ok(&found.ok_or(&errors::LEAD_NOT_FOUND)?)
}
