//! The Lambda of `GET /api/credits/transactions`.

use oslira_fn_credits::list_transactions;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| list_transactions(request, db.clone())).await
}
