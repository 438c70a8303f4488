//! The Lambda of `POST /api/leads/{leadId}/restore`.

use oslira_fn_leads::restore_lead;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Write(GENERAL), move |request| restore_lead(request, db.clone())).await
}
