//! The lead in the path of a refresh.

use oslira_db::UserDb;
use oslira_db::cache::RefreshableLead;
use oslira_domain::LeadId;
use oslira_http::{AccessGuard, GENERAL, Problem, Request, errors};

/// Returns the lead in the path, if the caller may refresh it. Counts the request as one of the caller's.
pub(crate) async fn lead(request: &Request, guard: &AccessGuard, db: &UserDb) -> Result<(LeadId, RefreshableLead), Problem> {
    let id: LeadId = request.path("leadId")?;
    let caller = &request.caller;
    guard.count(GENERAL, &caller.user_id.to_string(), 1).await?;
    let lead = db.refreshable_lead(&caller.claims(), caller.requested_account, id).await?.ok_or(&errors::LEAD_NOT_FOUND)?;
    if !lead.can_write {
        return Err(Problem::of(&errors::READ_ONLY).message("Viewers cannot refresh profiles."));
    }
    tracing::Span::current().record("account_id", lead.account_id.to_string());
    Ok((id, lead))
}
