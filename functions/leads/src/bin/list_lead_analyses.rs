//! The Lambda of `GET /api/leads/{leadId}/analyses`.

use oslira_fn_leads::list_lead_analyses;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Read(GENERAL), move |request| list_lead_analyses(request, db.clone())).await
}
