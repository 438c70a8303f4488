//! `GET /api/leads`

use std::str::FromStr;

use oslira_db::leads::{LeadFilter, LeadOrder, LeadSummary};
use oslira_db::{Slice, UserDb};
use oslira_domain::{InvalidUsername, Username};
use oslira_http::openapi::Api;
use oslira_http::{Fields, FromFields, GENERAL, Paging, Problem, Reader, Reply, Request, endpoint, parsed, string};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

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
        let search = fields.optional("search", Search);
        let order = fields.or_default("sortBy", parsed(), LeadOrder::LastAnalyzedAt);
        let descending = fields.or_default("sortOrder", parsed(), Direction::Desc) == Direction::Desc;
        let paging = Paging::from_fields(fields, 50, 100);
        Some(Self { filter: LeadFilter { business_profile_id, search: search.flatten(), order, descending }, paging: paging? })
    }
}

/// Reads a text to search for. A handle may be pasted as anywhere else: with `@`, or as an address. `None` for an empty text.
struct Search;

impl Reader for Search {
    type Value = Option<String>;

    fn read(&self, value: &Value) -> Result<Option<String>, String> {
        let text = string(0, 500).read(value)?;
        match text.parse::<Username>() {
            Ok(username) => Ok(Some(username.to_string())),
            Err(InvalidUsername::Address(pasted)) => {
                Err(format!("expected a text, a handle or the address of a profile, not the address of {pasted}"))
            }
            Err(_) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        }
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        string(0, 500).schema(generator)
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
        .field("search", "Only leads whose handle or name contains this text, ignoring case. A handle may be written with `@` or as the address of its profile.")
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
