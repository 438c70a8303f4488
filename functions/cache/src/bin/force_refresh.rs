//! The Lambda of `POST /api/leads/{leadId}/force-refresh`.

use oslira_aws::profiles::Profiles;
use oslira_fn_cache::force_refresh;
use oslira_http::{Access, Environment, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, config, .. } = Environment::start()?;
    let profiles = Profiles::from_env(&config)?;
    run(gateway.clone(), Access::Own, move |request| force_refresh(request, gateway.clone(), db.clone(), profiles.clone())).await
}
