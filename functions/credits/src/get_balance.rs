//! `GET /api/credits/balance`

use oslira_db::UserDb;
use oslira_db::credits::Balance;
use oslira_http::openapi::Api;
use oslira_http::{GENERAL, Problem, Reply, Request};

/// What the API's document says of this endpoint.
pub(crate) fn describe(api: &mut Api) {
    api.user(include_str!("get_balance.rs")).limited(&[GENERAL]).answers::<Balance>(200).needs_account().end();
}

/// The account's balance and plan.
///
/// # Errors
/// `NO_ACCOUNTS` and `FORBIDDEN` 403.
pub async fn get_balance(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let caller = &request.caller;
    let found = db.balance(&caller.claims(), caller.account_id).await?;
    Reply::ok(&found.ok_or_else(|| Problem::no_account(caller.account_id))?)
}
