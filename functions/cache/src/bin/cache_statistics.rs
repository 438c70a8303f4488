//! The Lambda of `GET /api/cache/statistics`.

use oslira_aws::lookups::Lookups;
use oslira_aws::profiles::Profiles;
use oslira_fn_cache::{StatisticsConfig, cache_statistics};
use oslira_http::{Endpoint, GENERAL, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<StatisticsConfig>()?;
    let Endpoint { guard, db } = Endpoint::new(&init.config.endpoint, &init);
    let profiles = Profiles::new(&init.aws, init.config.profile_bucket);
    let lookups = Lookups::new(&init.aws, init.config.cache_lookups_table);
    let handler = move |request| cache_statistics(request, db.clone(), profiles.clone(), lookups.clone());
    run(guard, RateLimit::Concurrent(GENERAL), handler).await
}
