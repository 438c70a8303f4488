//! `GET /api/leads`

use oslira_db::leads::{LeadFilter, LeadOrder};
use oslira_db::{Slice, UserDb};
use oslira_http::{Fields, FromFields, Paging, Problem, Reply, Request, text, words};
use serde_json::Value;

/// Which leads, in which order, which page.
#[derive(Debug)]
struct ListLeads {
    filter: LeadFilter,
    paging: Paging,
}

impl FromFields for ListLeads {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let business_profile_id = fields.optional("businessProfileId", text);
        // An empty search box searches for nothing.
        let search = fields.optional("search", words(0, 100)).filter(|search| !search.is_empty());
        let order = fields.optional("sortBy", order);
        let descending = fields.optional("sortOrder", direction);
        let paging = Paging::from_fields(fields, 50, 100);
        let (order, descending) = (order.unwrap_or(LeadOrder::LastAnalyzedAt), descending.unwrap_or(true));
        Some(Self { filter: LeadFilter { business_profile_id, search, order, descending }, paging: paging? })
    }
}

fn order(value: &Value) -> Result<LeadOrder, String> {
    match value.as_str() {
        Some("last_analyzed_at") => Ok(LeadOrder::LastAnalyzedAt),
        Some("follower_count") => Ok(LeadOrder::FollowerCount),
        Some("created_at") => Ok(LeadOrder::CreatedAt),
        _ => Err("expected last_analyzed_at, follower_count or created_at".to_owned()),
    }
}

fn direction(value: &Value) -> Result<bool, String> {
    match value.as_str() {
        Some("desc") => Ok(true),
        Some("asc") => Ok(false),
        _ => Err("expected asc or desc".to_owned()),
    }
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
