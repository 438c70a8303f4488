//! `GET /api/credits/balance`

use oslira_db::UserDb;
use oslira_http::{Problem, Reply, Request};

/// The account's balance and plan.
///
/// # Errors
/// `NO_ACCOUNTS` and `FORBIDDEN` 403.
pub async fn get_balance(request: Request, db: UserDb) -> Result<Reply, Problem> {
    let caller = &request.caller;
    let found = db.balance(&caller.claims(), caller.account_id).await?;
    Reply::ok(&found.ok_or_else(|| Problem::no_account(caller.account_id))?)
}
