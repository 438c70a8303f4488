//! The Lambda of `POST /api/leads/{leadId}/force-refresh`.

use oslira_aws::profiles::Profiles;
use oslira_fn_cache::{ForceRefreshConfig, force_refresh};
use oslira_http::{Endpoint, RateLimit, run};
use oslira_lambda::init;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let init = init::<ForceRefreshConfig>()?;
    let Endpoint { guard, db } = Endpoint::new(&init.config.endpoint, &init);
    let profiles = Profiles::new(&init.aws, init.config.profile_bucket);
    run(guard.clone(), RateLimit::InHandler, move |request| force_refresh(request, guard.clone(), db.clone(), profiles.clone())).await
}
