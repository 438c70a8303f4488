//! `GET /api/leads`

use std::str::FromStr;

use oslira_db::leads::{LeadFilter, LeadOrder, LeadSummary};
use oslira_db::{Slice, UserDb};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reply, Request, text, words};
use schemars::JsonSchema;
use serde::Serialize;

/// Which leads, in which order, which page.
#[derive(Debug)]
struct ListLeads {
    filter: LeadFilter,
    paging: Paging,
}

impl FromFields for ListLeads {
    fn from_fields(fields: &mut impl Fields) -> Option<Self> {
        let business_profile_id = fields.optional("businessProfileId", text());
        // An empty search box searches for nothing.
        let search = fields.optional("search", words(0, 100)).filter(|search| !search.is_empty());
        let order = fields.or("sortBy", text(), LeadOrder::LastAnalyzedAt);
        let descending = fields.or("sortOrder", text(), Direction::Desc) == Direction::Desc;
        let paging = Paging::from_fields(fields, 50, 100);
        Some(Self { filter: LeadFilter { business_profile_id, search, order, descending }, paging: paging? })
    }
}

/// In which direction a list goes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Direction {
    /// Least first.
    Asc,
    /// Greatest first.
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

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("list_leads.rs"))
        .query::<ListLeads>()
        .field("businessProfileId", "Only the leads of this business.")
        .field("search", "Only leads with this text in handle or name, in any case.")
        .field("sortBy", "Leads without the value come last, whatever the direction.")
        .limited(&[GENERAL])
        .answers_page::<LeadSummary>()
        .needs_account()
        .end();
}

/// Lists the account's leads, newest analysis first unless asked otherwise, each with its latest analysis.
///
/// Leads never analysed are listed too, last. Soft-deleted leads are not. `search` looks for a text in handle and name. Given the `asOf` of
/// the first page, later pages list what existed then.
///
/// # Errors
/// `VALIDATION_ERROR` 400 with every fault; `NO_ACCOUNTS` and `FORBIDDEN` 403.
pub async fn list_leads(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let ListLeads { filter, paging } = request.query()?;
    let caller = &request.caller;
    let slice = Slice { limit: paging.page_size, offset: paging.offset(), as_of: paging.as_of };
    let found = db.leads(&caller.claims(), caller.account_id, &filter, slice).await?;
    let found = found.ok_or_else(|| Problem::no_account(caller.account_id))?;
    Reply::page(&paging.page(found.rows, found.total, found.as_of))
}
