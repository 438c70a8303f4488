//! `GET /api/leads`

use std::str::FromStr;

use oslira_db::leads::{LeadFilter, LeadOrder, LeadSummary};
use oslira_db::{Slice, UserDb};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request, endpoint, parsed, string};
use schemars::JsonSchema;
use serde::Serialize;

/// The parameters of the query.
#[derive(Debug)]
struct ListLeads {
    filter: LeadFilter,
    paging: Paging,
}

impl FromFields for ListLeads {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let business_profile_id = fields.optional("businessProfileId", parsed());
        // The search box of a web page sends an empty text.
        let search = fields.optional("search", string(0, 100)).filter(|search| !search.is_empty());
        let order = fields.or_default("sortBy", parsed(), LeadOrder::LastAnalyzedAt);
        let descending = fields.or_default("sortOrder", parsed(), Direction::Desc) == Direction::Desc;
        let paging = Paging::from_fields(fields, 50, 100);
        Some(Self { filter: LeadFilter { business_profile_id, search, order, descending }, paging: paging? })
    }
}

/// The direction of a list's order.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Direction {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

impl FromStr for Direction {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "desc" => Ok(Self::Desc),
            "asc" => Ok(Self::Asc),
            _ => Err("asc or desc"),
        }
    }
}

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE)
        .query::<ListLeads>()
        .field("businessProfileId", "Only leads of this business profile.")
        .field("search", "Only leads whose handle or name contains this text, ignoring case.")
        .field("sortBy", "Leads without the value come last in both directions.")
        .limited(&[GENERAL])
        .responds_with_page::<LeadSummary>()
        .requires_account()
        .end();
}

/// Lists the account's leads, by default newest analysis first, each with its latest analysis.
///
/// Leads without an analysis come last. Deleted leads are not listed. `search` finds a text in handle and name. With the `asOf` of the first
/// page, later pages list what existed then.
#[endpoint(GET, "/api/leads")]
pub async fn list_leads(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListLeads { filter, paging } = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.leads(&caller.claims(), caller.requested_account, &filter, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.requested_account))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
