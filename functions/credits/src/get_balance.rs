//! `GET /api/credits/balance`

use oslira_db::UserDb;
use oslira_db::credits::Balance;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request, endpoint};

/// Describes this endpoint in the API's document.
pub(crate) fn describe(api: &mut Api) {
    api.user(ROUTE).limited(&[GENERAL]).responds::<Balance>(200).requires_account().end();
}

/// Returns the account's balance and plan.
#[endpoint(GET, "/api/credits/balance")]
pub async fn get_balance(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let caller = &request.caller;
    let found = db.balance(&caller.claims(), caller.requested_account).await?;
    Reply::ok(&found.ok_or_else(|| Problem::no_account(caller.requested_account))?)
}
