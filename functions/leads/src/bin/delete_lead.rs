//! The Lambda of `DELETE /api/leads/{leadId}`.

use oslira_fn_leads::delete_lead;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, .. } = Environment::start()?;
    run(gateway, Access::Write(GENERAL), move |request| delete_lead(request, db.clone())).await
}
