//! The Lambda of `GET /api/leads/{leadId}`.

use oslira_fn_leads::get_lead;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| get_lead(request, db.clone())).await
}
