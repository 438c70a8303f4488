//! The Lambda of `GET /api/cache/statistics`.

use oslira_aws::lookups::Lookups;
use oslira_aws::profiles::Profiles;
use oslira_fn_cache::cache_statistics;
use oslira_http::{Access, Environment, GENERAL, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let Environment { gateway, db, config, .. } = Environment::start()?;
    let (profiles, lookups) = (Profiles::from_env(&config)?, Lookups::from_env(&config)?);
    run(gateway, Access::Read(GENERAL), move |request| cache_statistics(request, db.clone(), profiles.clone(), lookups.clone())).await
}
