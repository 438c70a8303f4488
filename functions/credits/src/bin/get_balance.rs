//! The Lambda of `GET /api/credits/balance`.

use oslira_fn_credits::get_balance;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| get_balance(request, db.clone())).await
}
